"""Items from tables: CSV and Parquet files with a column of prompts."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from safelight.cli.item import Item, key_of
from safelight.errors import MissingExtraError, RequestError, first_line, unknown_name

_LONGEST_CELL = 1 << 24


def read_csv(path: Path, column: str) -> Iterator[Item]:
    """The first line names the columns; an "id" among them names the rows.

    Raises ``RequestError`` for a file without the column.
    """
    csv.field_size_limit(_LONGEST_CELL)
    with path.open("rb") as file:
        text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        # A longer line comes in pieces, which are not taken for rows without an error, and never whole.
        lines = iter(partial(text.readline, 2 * _LONGEST_CELL), "")
        rows = filter(None, csv.reader(lines, strict=True))
        names = _csv_header(path, rows, column)
        number = 0
        while True:
            number += 1
            try:
                row = next(rows, None)
            except csv.Error as error:
                place = key_of(None, str(path), {"row": number})
                yield Item("problem", place, f"row {number} is not valid CSV: {error}.")
                continue
            if row is None:
                return
            yield _csv_row(row, number, names, path, column)


def _csv_header(path: Path, rows: Iterator[list[str]], column: str) -> list[str]:
    try:
        names = next(rows, [])
    except csv.Error as error:
        raise RequestError(f"{path} cannot be read as CSV: {error}.") from error
    _check_column(path, column, names)
    return names


def _csv_row(row: list[str], number: int, names: list[str], path: Path, column: str) -> Item:
    cells = dict(zip(names, row, strict=False))
    if len(row) != len(names):
        sentence = f"row {number} has {len(row)} cells instead of {len(names)}; put quotes around commas."
        return Item("problem", key_of(None, str(path), {"row": number}), sentence)
    return Item("prompt", key_of(cells.get("id"), str(path), {"row": number}), cells[column])


def count_parquet(path: Path, column: str) -> int:
    """The number of rows. Raises ``RequestError`` for a file that is damaged or has no such column."""
    return int(_parquet(path, column).metadata.num_rows)


def read_parquet(path: Path, column: str) -> Iterator[Item]:
    """Read a part at a time, so that files of any size fit into memory.

    Raises ``OSError`` where the file is damaged.
    """
    file = _parquet(path, column)
    wanted = [name for name in ("id", column) if name in file.schema_arrow.names]
    number = 0
    try:
        for part in file.iter_batches(columns=wanted):
            for row in part.to_pylist():
                number += 1
                yield Item("prompt", key_of(row.get("id"), str(path), {"row": number}), row[column])
    except Exception as error:  # damaged files fail in every way there is
        raise OSError(f"it is damaged from row {number + 1} on ({first_line(error)})") from error


def _parquet(path: Path, column: str) -> Any:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise MissingExtraError("a Parquet file", "data") from error
    try:
        file = parquet.ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise RequestError(f"{path} cannot be read as Parquet: {error}.") from error
    _check_column(path, column, file.schema_arrow.names)
    return file


def _check_column(path: Path, column: str, there: Sequence[str]) -> None:
    if column not in there:
        raise RequestError(f"{path}: {unknown_name('column', column, there)} Choose one with --column.")
    if len(set(there)) < len(there):
        raise RequestError(f"{path} has two columns of the same name; rename one of them.")
