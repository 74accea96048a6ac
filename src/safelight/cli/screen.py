"""``safelight screen``: the filters alone, on prompts and pictures that are there already."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from safelight.cli import terminal
from safelight.cli.options import AsJson
from safelight.errors import RequestError

if TYPE_CHECKING:
    from safelight.cli.record import Record

_WRONG, _BLOCKED = 2, 3
# What could not be looked at matters more than what was refused.
_PRECEDENCE = (0, _BLOCKED, _WRONG)


def screen(
    items: Annotated[
        list[str] | None, typer.Argument(metavar="ITEM", help="Prompts, files and folders.")
    ] = None,
    policy: Annotated[str, typer.Option(help="A packaged policy or a TOML file.")] = "general",
    as_json: AsJson = False,
) -> None:
    """Judge prompts and pictures that are there already.

    An item that names a folder stands for the pictures in it, a picture file for itself, a .jsonl file for
    its {"id", "prompt"} lines, any other file for the prompts on its lines. Everything else is a prompt.
    Without items, JSONL is read from standard input: the way to screen what other people wrote.

    Prints one JSON object a line, in the order of the input; a table on a terminal, unless --json is given.
    Exits with 2 if something could not be read or screened, with 3 if something was blocked. With --json
    it is 0 whatever the verdicts.

    \b
    Examples:
      safelight screen --policy storybook "a child with a knife"
      safelight screen prompts.txt pictures/ --json > verdicts.jsonl
      echo '{"id": 1, "prompt": "a gun"}' | safelight screen --policy storybook
    """
    from safelight.cli.items import read_items
    from safelight.cli.record import screened
    from safelight.guard import Guard

    guard = Guard.from_policy(policy)
    records = screened(guard, read_items(items or [], _standard_input(items)))
    code = _show_table(records) if terminal.is_terminal() and not as_json else _show_lines(records)
    if code == _WRONG or (code == _BLOCKED and not as_json):
        raise typer.Exit(code)


def _standard_input(items: list[str] | None) -> BinaryIO:
    if not items and sys.stdin.isatty():
        raise RequestError("there is nothing to screen; give prompts, files or folders, or pipe JSONL in.")
    return sys.stdin.buffer


def _show_lines(records: Iterable[Record]) -> int:
    """Prints each record as it comes; gives the exit code."""
    worst = 0
    for record in records:
        terminal.print_json(record.to_dict())
        worst = max(worst, _code(record), key=_PRECEDENCE.index)
    return worst


def _show_table(records: Iterable[Record]) -> int:
    rows, worst = [], 0
    for record in records:
        rows.append((record.action.value, record.item.name, record.why))
        worst = max(worst, _code(record), key=_PRECEDENCE.index)
    terminal.print_table(("", "item", "why"), rows)
    return worst


def _code(record: Record) -> int:
    return _WRONG if record.failed else _BLOCKED if record.action == "block" else 0
