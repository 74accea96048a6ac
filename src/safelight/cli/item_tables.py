"""Items from tables: CSV and Parquet files with a column of prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from safelight.cli.item import Item, key_of
from safelight.errors import RequestError, unknown_name
from safelight.storage.tables import Row, csv_table, parquet_table


def read_csv(path: Path, column: str) -> Iterator[Item]:
    """Yield the prompts in a column of a CSV file, whose first line has the names of the columns.

    A column "id" identifies the rows. Raises ``RequestError`` for a file without the column.
    """
    with csv_table(path) as table:
        _check_column(path, column, table.columns)
        for row in table.rows():
            yield _item(path, column, row)


def count_parquet(path: Path, column: str) -> int:
    """Return the number of rows. Raises ``RequestError`` for a file that is damaged or lacks the column."""
    with parquet_table(path) as table:
        _check_column(path, column, table.columns)
        return table.count


def read_parquet(path: Path, column: str) -> Iterator[Item]:
    """Yield the prompts in a column of a Parquet file, which is read in parts to limit memory use.

    Raises ``OSError`` if the file is damaged.
    """
    with parquet_table(path) as table:
        _check_column(path, column, table.columns)
        for row in table.rows([name for name in ("id", column) if name in table.columns]):
            yield _item(path, column, row)


def _item(path: Path, column: str, row: Row) -> Item:
    key = key_of(row.cells.get("id"), str(path), {"row": row.number})
    return Item("problem", key, row.problem) if row.problem else Item("prompt", key, row.cells[column])


def _check_column(path: Path, column: str, there: Sequence[str]) -> None:
    if column not in there:
        raise RequestError(f"{path}: {unknown_name('column', column, there)} Choose one with --column.")
    if len(set(there)) < len(there):
        raise RequestError(f"{path} has two columns of the same name; rename one of them.")
