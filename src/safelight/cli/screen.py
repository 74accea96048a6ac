"""``safelight screen``: the filters alone, on prompts and pictures that are there already."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from safelight.cli import terminal
from safelight.cli.options import AsJson
from safelight.errors import RequestError
from safelight.types import Stage

if TYPE_CHECKING:
    from safelight.cli.items import Items
    from safelight.cli.record import Record
    from safelight.guard import Guard

_WRONG, _BLOCKED = 2, 3
# What could not be looked at matters more than what was refused.
_PRECEDENCE = (0, _BLOCKED, _WRONG)


def screen(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ITEM", help="Prompts, files and folders.")
    ] = None,
    policy: Annotated[str, typer.Option(help="A packaged policy or a TOML file.")] = "general",
    stage: Annotated[
        Stage | None, typer.Option(help="Take every item for a prompt, a picture, or both together.")
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
    as_json: AsJson = False,
) -> None:
    """Judge prompts and pictures that are there already.

    An item that names a folder stands for the pictures in it, a picture file for itself, a pattern for the
    picture files that match, a .jsonl file for its {"id", "prompt"} lines, a .csv or .parquet file for a
    column of prompts, any other file for the prompts on its lines. Everything else is a prompt. Without
    items, JSONL is read from standard input: the way to screen what other people wrote.

    With --stage image the lines of JSONL are {"id", "path"}. With --stage pair, where a prompt and its
    picture are judged together, they are {"id", "prompt", "path"}. Paths start at the file's folder.

    Prints one JSON object a line, in the order of the input; a table on a terminal, unless --json is given.
    The lines name prompts by their hash only, unless --explain asks for the words that were found.
    Exits with 2 if something could not be read or screened, with 3 if something was blocked. With --json
    it is 0 whatever the verdicts.

    \b
    Examples:
      safelight screen --policy storybook "a child with a knife"
      safelight screen prompts.txt pictures/ --json > verdicts.jsonl
      safelight screen "pictures/**/*.png" --out verdicts.jsonl
      safelight screen --stage prompt users.csv --column text --explain
      echo '{"id": 1, "prompt": "a gun"}' | safelight screen --policy storybook
    """
    from safelight.cli.items import read_items
    from safelight.cli.record import screened
    from safelight.guard import Guard

    # Without --stage what the items are shows as they are read; most often they are prompts.
    guard = Guard.from_policy(policy, stages=(stage or "prompt",))
    items = read_items(arguments or [], _standard_input(arguments), stage, column)
    if out:
        code = _keep(guard, items, out, explain, as_json)
    elif terminal.is_terminal() and not as_json:
        code = _show_table(screened(guard, items))
    else:
        code = _show_lines(screened(guard, items), items.total, explain)
    if code == _WRONG or (code == _BLOCKED and not as_json):
        raise typer.Exit(code)


def _standard_input(arguments: list[str] | None) -> BinaryIO:
    if not arguments and sys.stdin.isatty():
        raise RequestError("there is nothing to screen; give prompts, files or folders, or pipe JSONL in.")
    return sys.stdin.buffer


def _keep(guard: Guard, items: Items, out: Path, explain: bool, as_json: bool) -> int:
    """Adds to the file what it does not have yet; prints what it has then."""
    from safelight.cli.ledger import Ledger
    from safelight.cli.record import screened

    with Ledger(out, guard.policy.id) as ledger, terminal.counting("Screening", items.total) as tell:
        worst = 0
        for record in screened(guard, ledger.missing(items)):
            ledger.add(record.to_dict(explain))
            worst = _worse(worst, _code(record))
            tell(len(ledger))
        if ledger.actions["block"]:
            worst = _worse(worst, _BLOCKED)
    if as_json:
        terminal.print_json({"out": str(out), "policy": guard.policy.id, "actions": dict(ledger.actions)})
    else:
        counts = ", ".join(f"{action} {count}" for action, count in sorted(ledger.actions.items()))
        terminal.print_line(f"{out}: {counts or 'nothing'}")
    return worst


def _show_lines(records: Iterable[Record], total: int | None, explain: bool) -> int:
    """Prints each record as it comes; gives the exit code."""
    worst = 0
    with terminal.counting("Screening", total, terminal.is_terminal()) as tell:
        for number, record in enumerate(records, 1):
            terminal.print_json(record.to_dict(explain))
            worst = _worse(worst, _code(record))
            tell(number)
    return worst


def _show_table(records: Iterable[Record]) -> int:
    rows, worst = [], 0
    for record in records:
        rows.append((record.action.value, record.item.name, record.why))
        worst = _worse(worst, _code(record))
    terminal.print_table(("", "item", "why"), rows)
    return worst


def _worse(one: int, other: int) -> int:
    return max(one, other, key=_PRECEDENCE.index)


def _code(record: Record) -> int:
    return _WRONG if record.failed else _BLOCKED if record.action == "block" else 0
