"""Printing: results go to standard output, everything else to standard error.

A terminal gets tables and progress bars; anything else gets plain lines.
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
    "steered away": "green",
    "stopped": "green",
    "missed": "bold red",
    "over-blocked": "bold yellow",
}

# Columns narrower than this keep their width when the terminal is narrow.
_WRAPPING = 20

# Seconds between two lines of progress if there is no terminal for a progress bar.
_PROGRESS_INTERVAL_S = 10.0

Report = Callable[[int, int], None]


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
    """Print JSON on one line, in ASCII so that any terminal shows it; dates and the like become text."""
    with _written():
        typer.echo(json.dumps(value, default=str))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on a terminal; elsewhere one line for each row, with two spaces between cells."""
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
    """Raise ``RequestError`` if standard output is closed or full."""
    if sys.stdout is None:
        raise RequestError("standard output is closed, so nothing can be printed.")
    try:
        yield
    except OSError as error:
        _drop_output()
        sentence = f"standard output cannot be written: {error.strerror or error}; the output is incomplete."
        raise RequestError(sentence) from error


def _drop_output() -> None:
    """Discard further output; flushing what is left would fail again when the program exits."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return


class Rows:
    """A table printed row by row: in columns of these widths on a terminal, elsewhere as plain lines."""

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
    """Show on a terminal that a slow step is running."""
    console = messages()
    if not console.is_terminal:
        yield
        return
    with console.status(doing):
        yield


@contextmanager
def progress(doing: str) -> Iterator[Report]:
    """Yield a function that reports the number of items done and their total number."""
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
    """Yield a function that reports how many items are done, out of ``total`` if that is known.

    It shows a bar on a terminal, and elsewhere prints a line every few seconds.
    """
    if silent or not messages().is_terminal:
        yield (lambda _: None) if silent else _timed_lines(doing, total)
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


def _timed_lines(doing: str, total: int | None) -> Callable[[int], None]:
    last = time.monotonic()

    def report(done: int) -> None:
        nonlocal last
        if done != total and time.monotonic() - last >= _PROGRESS_INTERVAL_S:
            last = time.monotonic()
            note(f"{doing}: {done}" if total is None else f"{doing}: {done} of {total}")

    return report


def _lines(doing: str) -> Report:
    """Return a function that prints a line at every tenth of the work."""
    tenths = 0

    def report(done: int, total: int) -> None:
        nonlocal tenths
        if 10 * done // total > tenths:
            tenths = 10 * done // total
            note(f"{doing}: {done} of {total}")

    return report
