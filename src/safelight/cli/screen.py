"""``safelight screen``: screens existing prompts and images with a policy's filters."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from safelight.cli import terminal
from safelight.cli.exit_codes import FailOn, Threshold, exit_code
from safelight.cli.options import PolicyName
from safelight.errors import RequestError
from safelight.types import Action, Stage

if TYPE_CHECKING:
    from safelight.cli.items import Items
    from safelight.cli.record import Record
    from safelight.guard.guard import Guard


def screen(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ITEM",
            help="Prompts, files, folders or glob patterns; - reads prompts from standard input.",
        ),
    ] = None,
    policy: PolicyName = "general",
    stage: Annotated[
        Stage | None,
        typer.Option(
            help="Treat every item as a prompt, an image, or a pair of both.",
            show_default="detected per item",
        ),
    ] = None,
    column: Annotated[
        str, typer.Option(help="Column or key of the prompts in CSV, Parquet and JSONL files.")
    ] = "prompt",
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Include in the JSON the words of a prompt that filters matched."),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            help="File to write the JSON lines to; an interrupted run resumes with the same file.",
            show_default="standard output",
        ),
    ] = None,
    fail_on: FailOn = "never",
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print JSON instead of a table on a terminal; with --output, one JSON summary."
        ),
    ] = False,
) -> None:
    """Screen prompts and images with the filters of a policy.

    An ITEM can be an image file; a folder or a glob pattern of images; a .jsonl file of {"id", "prompt"}
    lines; a .csv or .parquet file with a column of prompts; any other file, with one prompt per line; "-" for
    prompts on the lines of standard input; or a prompt itself. An item that looks like a path but does not
    exist is an error, unless --stage prompt is given. Without items, JSONL is read from standard input; use
    this for text that others wrote, as it cannot be mistaken for file names.

    With --stage image the lines of JSONL are {"id", "path"}. With --stage pair, which screens a prompt and
    its image together, they are {"id", "prompt", "path"}. Paths are relative to the file's folder.

    Prints one JSON object per line in the order of the input; on a terminal a table, unless --json is given.
    Prompts appear as hashes only; --explain adds the words that filters matched.

    Exits with 0 if everything was screened, whatever the verdicts; with 2 if an item could not be read or
    screened, with the reason under "error" in its line; and with 3 if the policy's action for any item
    is that of --fail-on or a more severe one.

    \b
    Examples:
      safelight screen --policy storybook "a child with a knife"
      safelight screen prompts.txt images/ --fail-on block --json > verdicts.jsonl
      safelight screen "images/**/*.png" --output verdicts.jsonl
      safelight screen --stage prompt users.csv --column text --explain
      echo '{"id": 1, "prompt": "a gun"}' | safelight screen --policy storybook
    """
    from safelight.cli.items import read_items
    from safelight.guard.guard import Guard

    # Without --stage the stages of items are known only once they are read; most are prompts.
    guard = Guard.from_policy(policy, stages=(stage or "prompt",))
    items = read_items(arguments or [], _standard_input(arguments), stage, column)
    if output:
        code = _write(guard, items, output, explain, fail_on, as_json)
    else:
        code = _show(guard, items, explain, fail_on, as_json)
    if code:
        raise typer.Exit(code)


def _standard_input(arguments: list[str] | None) -> BinaryIO:
    if sys.stdin is None:
        return io.BytesIO()
    if not arguments and sys.stdin.isatty():
        raise RequestError("there is nothing to screen; give prompts, files or folders, or pipe JSONL in.")
    return sys.stdin.buffer


@dataclass
class _Tally:
    """Iterates over records, and remembers their actions and whether any failed."""

    records: Iterable[Record]
    failed: bool = False
    actions: set[Action] = field(default_factory=set)

    def __iter__(self) -> Iterator[Record]:
        for record in self.records:
            self.failed |= record.failed
            self.actions.add(record.action)
            yield record


def _write(guard: Guard, items: Items, output: Path, explain: bool, fail_on: Threshold, as_json: bool) -> int:
    """Append the records that are missing in the file, print its totals, and return the exit code."""
    from safelight.cli.record import screened
    from safelight.cli.screening_log import ScreeningLog

    _check_not_an_item(items, output)
    with (
        ScreeningLog(output, guard.policy.id) as log,
        terminal.counting("Screening", items.total) as report,
    ):
        for record in screened(guard, log.missing(items)):
            log.add(record.to_dict(explain))
            report(log.done)
    if log.others:
        terminal.note(
            f"{output} has {log.others} records of earlier runs that belong to none of these items."
        )
    if as_json:
        actions = {action.value: count for action, count in log.actions.items()}
        totals = {"actions": actions, "errors": log.errors, "others": log.others}
        terminal.print_json({"out": str(output), "policy": guard.policy.id, **totals})
    else:
        counts = ", ".join(f"{action} {count}" for action, count in sorted(log.actions.items()))
        terminal.print_line(f"{output}: {counts}")
    return exit_code(log.errors > 0, log.actions, fail_on)


def _show(guard: Guard, items: Items, explain: bool, fail_on: Threshold, as_json: bool) -> int:
    from safelight.cli.record import screened

    tally = _Tally(screened(guard, items))
    if terminal.is_terminal() and not as_json:
        _show_table(tally, items.total)
    else:
        _show_lines(tally, items.total, explain)
    return exit_code(tally.failed, tally.actions, fail_on)


def _check_not_an_item(items: Items, output: Path) -> None:
    for source in items.sources:
        with suppress(OSError, ValueError):  # most sources are not files
            if output.samefile(source.name):
                raise RequestError(f"{output} is one of the items; give another --output.")


def _show_lines(records: Iterable[Record], total: int | None, explain: bool) -> None:
    """Print each record as soon as it is complete."""
    with terminal.counting("Screening", total, terminal.is_terminal()) as report:
        for number, record in enumerate(records, 1):
            terminal.print_json(record.to_dict(explain))
            report(number)


def _show_table(records: Iterable[Record], total: int | None) -> None:
    rows = []
    with terminal.counting("Screening", total) as report:
        for record in records:
            rows.append((record.action.value, record.item.name, record.why))
            report(len(rows))
    terminal.print_table(("", "item", "why"), rows)
