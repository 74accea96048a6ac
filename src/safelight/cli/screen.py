"""``safelight screen``: the filters alone, on prompts and pictures that are there already."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import StrEnum
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


class _Stage(StrEnum):
    PROMPT = "prompt"
    IMAGE = "image"


def screen(
    items: Annotated[
        list[str] | None, typer.Argument(metavar="ITEM", help="Prompts, files and folders.")
    ] = None,
    policy: Annotated[str, typer.Option(help="A packaged policy or a TOML file.")] = "general",
    stage: Annotated[
        _Stage | None, typer.Option(help="Take every item for a prompt, or for a picture.")
    ] = None,
    column: Annotated[str, typer.Option(help="Where CSV and Parquet files have the prompts.")] = "prompt",
    explain: Annotated[
        bool, typer.Option("--explain", help="Say which words of a prompt were found.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Judge prompts and pictures that are there already.

    An item that names a folder stands for the pictures in it, a picture file for itself, a .jsonl file for
    its {"id", "prompt"} lines, a .csv or .parquet file for a column of prompts, any other file for the
    prompts on its lines. Everything else is a prompt. Without items, JSONL is read from standard input: the
    way to screen what other people wrote.

    Prints one JSON object a line, in the order of the input; a table on a terminal, unless --json is given.
    The lines name prompts by their hash only, unless --explain asks for the words that were found.
    Exits with 2 if something could not be read or screened, with 3 if something was blocked. With --json
    it is 0 whatever the verdicts.

    \b
    Examples:
      safelight screen --policy storybook "a child with a knife"
      safelight screen prompts.txt pictures/ --json > verdicts.jsonl
      safelight screen --stage prompt users.csv --column text --explain
      echo '{"id": 1, "prompt": "a gun"}' | safelight screen --policy storybook
    """
    from safelight.cli.items import read_items
    from safelight.cli.record import screened
    from safelight.guard import Guard

    guard = Guard.from_policy(policy)
    chosen = stage.value if stage else None
    records = screened(guard, read_items(items or [], _standard_input(items), chosen, column))
    table = terminal.is_terminal() and not as_json
    code = _show_table(records) if table else _show_lines(records, explain)
    if code == _WRONG or (code == _BLOCKED and not as_json):
        raise typer.Exit(code)


def _standard_input(items: list[str] | None) -> BinaryIO:
    if not items and sys.stdin.isatty():
        raise RequestError("there is nothing to screen; give prompts, files or folders, or pipe JSONL in.")
    return sys.stdin.buffer


def _show_lines(records: Iterable[Record], explain: bool) -> int:
    """Prints each record as it comes; gives the exit code."""
    worst = 0
    with terminal.counting("Screening") as tell:
        for number, record in enumerate(records, 1):
            terminal.print_json(record.to_dict(explain))
            worst = max(worst, _code(record), key=_PRECEDENCE.index)
            tell(number)
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
