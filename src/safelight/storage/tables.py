"""Rows of CSV and Parquet files, some at a time, so that files of any size fit into memory.

A row that is damaged has a ``problem``, and those behind it are read all the same; what to do about it is the
reader's choice.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from safelight.errors import MissingExtraError, RequestError, first_line

_LONGEST_CELL = 1 << 24
_BATCH = 1024


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of row ``number`` (from 1) by column; or a ``problem``, the sentence why it has none."""

    number: int
    cells: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


class CsvTable:
    """An open CSV file. Bytes that are not UTF-8 become lone surrogates in its cells."""

    def __init__(self, path: Path, lines: Iterator[str]) -> None:
        self._rows = filter(None, csv.reader(lines, strict=True))
        try:
            self.columns = next(self._rows, [])
        except csv.Error as error:
            raise RequestError(f"{path} cannot be read as CSV: {error}.") from error

    def rows(self) -> Iterator[Row]:
        number = 0
        while True:
            number += 1
            try:
                cells = next(self._rows, None)
            except csv.Error as error:
                yield Row(number, problem=f"row {number} is not valid CSV: {error}.")
                continue
            if cells is None:
                return
            yield self._row(number, cells)

    def _row(self, number: int, cells: list[str]) -> Row:
        if len(cells) != len(self.columns):
            counts = f"{len(cells)} cells instead of {len(self.columns)}"
            return Row(number, problem=f"row {number} has {counts}; put quotes around commas.")
        return Row(number, dict(zip(self.columns, cells, strict=True)))


@contextmanager
def csv_table(path: Path) -> Iterator[CsvTable]:
    """Open a CSV file, whose first line names the columns.

    Raises ``RequestError`` for a first line that is not CSV.
    """
    csv.field_size_limit(_LONGEST_CELL)
    with path.open("rb") as file:
        text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        # A longer line comes in pieces, which are not taken for rows without an error, and never whole.
        yield CsvTable(path, iter(partial(text.readline, 2 * _LONGEST_CELL), ""))


class ParquetTable:
    """An open Parquet file with ``count`` rows."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.columns: list[str] = list(file.schema_arrow.names)
        self.count = int(file.metadata.num_rows)

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """Yield rows with these columns. Raises ``OSError`` where the file is damaged."""
        number = 0
        try:
            for part in self._file.iter_batches(_BATCH, columns=list(columns)):
                for cells in part.to_pylist():
                    number += 1
                    yield Row(number, cells)
        except Exception as error:  # damaged files fail in every way there is
            raise OSError(f"it is damaged from row {number + 1} on ({first_line(error)})") from error


@contextmanager
def parquet_table(path: Path) -> Iterator[ParquetTable]:
    """Open a Parquet file.

    Raises ``RequestError`` for another file, ``MissingExtraError`` without the extra "data".
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise MissingExtraError("a Parquet file", "data") from error
    try:
        file = parquet.ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise RequestError(f"{path} cannot be read as Parquet: {first_line(error)}.") from error
    with file:
        yield ParquetTable(file)
