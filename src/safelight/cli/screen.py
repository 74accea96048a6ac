"""``safelight screen``: the filters alone, on prompts and images that are there already."""

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
from safelight.cli.options import AsJson
from safelight.errors import RequestError
from safelight.types import Action, Stage

if TYPE_CHECKING:
    from safelight.cli.items import Items
    from safelight.cli.record import Record
    from safelight.guard.guard import Guard


def screen(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ITEM", help="Prompts, files, folders, or - for a pipe.")
    ] = None,
    policy: Annotated[str, typer.Option(help="A packaged policy or a TOML file.")] = "general",
    stage: Annotated[
        Stage | None, typer.Option(help="Take every item for a prompt, an image, or both together.")
    ] = None,
    column: Annotated[
        str, typer.Option(help="Where CSV, Parquet and JSONL files have the prompts.")
    ] = "prompt",
    explain: Annotated[
        bool, typer.Option("--explain", help="Say which words of a prompt were found.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="A file for the lines; a run that was stopped goes on with it.")
    ] = None,
    fail_on: FailOn = "never",
    as_json: AsJson = False,
) -> None:
    """Judge prompts and images that are there already.

    An item that names a folder stands for the images in it, an image file for itself, a pattern for the
    image files that match, a .jsonl file for its {"id", "prompt"} lines, a .csv or .parquet file for a
    column of prompts, any other file for the prompts on its lines, and "-" for those on the lines of
    standard input. Everything else is a prompt. What looks like a path and is not there is an error, unless
    --stage prompt says that it is a prompt. Without items, JSONL is read from standard input: the way to
    screen what other people wrote.

    With --stage image the lines of JSONL are {"id", "path"}. With --stage pair, where a prompt and its
    image are judged together, they are {"id", "prompt", "path"}. Paths start at the file's folder.

    Prints one JSON object a line, in the order of the input; a table on a terminal, unless --json is given.
    The lines name prompts by their hash only, unless --explain asks for the words that were found.

    Exits with 0 if everything was screened, whatever the verdicts; with 2 if anything could not be read or
    screened, and its line has the reason under "error"; else with 3 if the policy said what --fail-on is.

    \b
    Examples:
      safelight screen --policy storybook "a child with a knife"
      safelight screen prompts.txt images/ --fail-on block --json > verdicts.jsonl
      safelight screen "images/**/*.png" --out verdicts.jsonl
      safelight screen --stage prompt users.csv --column text --explain
      echo '{"id": 1, "prompt": "a gun"}' | safelight screen --policy storybook
    """
    from safelight.cli.items import read_items
    from safelight.guard.guard import Guard

    # Without --stage what the items are shows as they are read; most often they are prompts.
    guard = Guard.from_policy(policy, stages=(stage or "prompt",))
    items = read_items(arguments or [], _standard_input(arguments), stage, column)
    if out:
        code = _keep(guard, items, out, explain, fail_on, as_json)
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
    """Records on their way to where they are shown, and what they amount to."""

    records: Iterable[Record]
    failed: bool = False
    actions: set[Action] = field(default_factory=set)

    def __iter__(self) -> Iterator[Record]:
        for record in self.records:
            self.failed |= record.failed
            self.actions.add(record.action)
            yield record


def _keep(guard: Guard, items: Items, out: Path, explain: bool, fail_on: Threshold, as_json: bool) -> int:
    """Adds to the file what it does not have yet; prints what it has then."""
    from safelight.cli.record import screened
    from safelight.cli.screening_log import ScreeningLog

    _check_apart(items, out)
    with ScreeningLog(out, guard.policy.id) as ledger, terminal.counting("Screening", items.total) as tell:
        for record in screened(guard, ledger.missing(items)):
            ledger.add(record.to_dict(explain))
            tell(ledger.done)
    if ledger.others:
        terminal.note(
            f"{out} has {ledger.others} records of earlier runs that belong to none of these items."
        )
    if as_json:
        actions = {action.value: count for action, count in ledger.actions.items()}
        told = {"actions": actions, "errors": ledger.errors, "others": ledger.others}
        terminal.print_json({"out": str(out), "policy": guard.policy.id, **told})
    else:
        counts = ", ".join(f"{action} {count}" for action, count in sorted(ledger.actions.items()))
        terminal.print_line(f"{out}: {counts}")
    return exit_code(ledger.errors > 0, ledger.actions, fail_on)


def _show(guard: Guard, items: Items, explain: bool, fail_on: Threshold, as_json: bool) -> int:
    from safelight.cli.record import screened

    tally = _Tally(screened(guard, items))
    if terminal.is_terminal() and not as_json:
        _show_table(tally, items.total)
    else:
        _show_lines(tally, items.total, explain)
    return exit_code(tally.failed, tally.actions, fail_on)


def _check_apart(items: Items, out: Path) -> None:
    for source in items.sources:
        with suppress(OSError, ValueError):  # most sources are no files
            if out.samefile(source.name):
                raise RequestError(f"{out} is one of the items; give another --out.")


def _show_lines(records: Iterable[Record], total: int | None, explain: bool) -> None:
    """Prints each record as it comes."""
    with terminal.counting("Screening", total, terminal.is_terminal()) as tell:
        for number, record in enumerate(records, 1):
            terminal.print_json(record.to_dict(explain))
            tell(number)


def _show_table(records: Iterable[Record], total: int | None) -> None:
    rows = []
    with terminal.counting("Screening", total) as tell:
        for record in records:
            rows.append((record.action.value, record.item.name, record.why))
            tell(len(rows))
    terminal.print_table(("", "item", "why"), rows)
