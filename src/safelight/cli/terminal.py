"""What commands print: results on standard output, everything else on standard error.

Tables and bars are for terminals; elsewhere there are plain lines.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from safelight.errors import RequestError

STYLES = {
    "allow": "green",
    "review": "yellow",
    "steer": "yellow",
    "blur": "magenta",
    "block": "bold red",
    "released": "green",
    "led away": "green",
    "stopped": "green",
    "missed": "bold red",
    "over-blocked": "bold yellow",
}

# Columns narrower than this keep their width when the terminal is narrow.
_WRAPPING = 20

# Elsewhere than on a terminal, what takes long says so this often.
_SILENCE_S = 10.0

Tell = Callable[[int, int], None]


def output() -> Console:
    return Console(highlight=False)


def messages() -> Console:
    return Console(stderr=True, highlight=False)


def is_terminal() -> bool:
    return output().is_terminal


def complain(sentence: str) -> None:
    messages().print(Text.assemble(("Error: ", "bold red"), sentence), soft_wrap=True)


def note(sentence: str) -> None:
    messages().print(Text(sentence, style="dim"), soft_wrap=True)


def print_line(line: str) -> None:
    with _written():
        output().print(Text(line), soft_wrap=True)


def print_json(value: Any) -> None:
    """One line; letters beyond ASCII are escaped, so that it prints anywhere. Dates and the like are text."""
    with _written():
        typer.echo(json.dumps(value, default=str))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal; elsewhere a line for each row, its cells two spaces apart."""
    if not is_terminal():
        for row in rows:
            print_line("  ".join(cell for cell in row if cell))
        return
    table = Table(*headings, box=None, padding=(0, 2, 0, 0), header_style="dim")
    for row in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    with _written():
        output().print(table, "")


@contextmanager
def _written() -> Iterator[None]:
    """Raises ``RequestError`` if standard output is closed or full."""
    if sys.stdout is None:
        raise RequestError("standard output is closed, so nothing can be said.")
    try:
        yield
    except OSError as error:
        _drop_output()
        sentence = f"standard output cannot be written: {error.strerror or error}; not everything was said."
        raise RequestError(sentence) from error


def _drop_output() -> None:
    """What is still to be written would fail again when the program ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return


class Rows:
    """A table that grows: on a terminal in columns of these widths, elsewhere as plain lines."""

    def __init__(self, widths: Mapping[str, int], silent: bool = False) -> None:
        self.widths = widths
        self.silent = silent
        if is_terminal() and not silent:
            output().print(self._table([Text(heading, style="dim") for heading in widths]))

    def add(self, cells: Sequence[str]) -> None:
        if self.silent:
            return
        if is_terminal():
            output().print(self._table([Text(cell, style=STYLES.get(cell, "")) for cell in cells]))
        else:
            print_line("  ".join(cells))

    def _table(self, cells: Sequence[Text]) -> Table:
        room = min(output().width, sum(self.widths.values()) + 2 * len(self.widths))
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), width=room)
        for width in self.widths.values():
            narrow = width < _WRAPPING
            table.add_column(width=width if narrow else None, ratio=None if narrow else width)
        table.add_row(*cells)
        return table


@contextmanager
def busy(doing: str) -> Iterator[None]:
    """Says on a terminal what takes a while."""
    console = messages()
    if not console.is_terminal:
        yield
        return
    with console.status(doing):
        yield


@contextmanager
def progress(doing: str) -> Iterator[Tell]:
    """A function to be told how much is done of how much."""
    if not messages().is_terminal:
        yield _lines(doing)
        return
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=messages(), transient=True) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def counting(doing: str, total: int | None = None, silent: bool = False) -> Iterator[Callable[[int], None]]:
    """A function to be told how much is done, of ``total`` where that is known.

    A bar on a terminal; elsewhere a line now and then if it takes long.
    """
    if silent or not messages().is_terminal:
        yield (lambda _: None) if silent else _spoken(doing, total)
        return
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=messages(), transient=True) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda done: bar.update(task, completed=done)


def _spoken(doing: str, total: int | None) -> Callable[[int], None]:
    told = time.monotonic()

    def tell(done: int) -> None:
        nonlocal told
        if done != total and time.monotonic() - told >= _SILENCE_S:
            told = time.monotonic()
            note(f"{doing}: {done}" if total is None else f"{doing}: {done} of {total}")

    return tell


def _lines(doing: str) -> Tell:
    """Says every tenth part."""
    told = 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        if 10 * done // total > told:
            told = 10 * done // total
            note(f"{doing}: {done} of {total}")

    return tell
