"""Parquet files that are written row by row and appear only when they are complete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from safelight.storage.atomic_write import atomic_write

if TYPE_CHECKING:
    from pyarrow import Schema
    from pyarrow.parquet import ParquetWriter

_ROWS = 4096


class RowFile:
    """A Parquet file to which rows are added; ``written`` is their number."""

    def __init__(self, file: ParquetWriter) -> None:
        self._file = file
        self._rows: list[Mapping[str, Any]] = []
        self.written = 0

    @classmethod
    @contextmanager
    def writing(cls, path: Path, schema: Schema) -> Iterator[Self]:
        """Yield a file that appears at ``path`` when the context is left; after an error nothing remains."""
        from pyarrow.parquet import ParquetWriter

        with (
            atomic_write(path) as part,
            ParquetWriter(part, schema, compression="zstd") as file,
        ):
            rows = cls(file)
            yield rows
            rows.flush()

    def add(self, row: Mapping[str, Any]) -> None:
        self._rows.append(row)
        self.written += 1
        if len(self._rows) == _ROWS:
            self.flush()

    def flush(self) -> None:
        from pyarrow import Table

        if self._rows:
            self._file.write_table(Table.from_pylist(self._rows, self._file.schema))
            self._rows = []


def rows_in(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file, with all columns or the named ones."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS, columns=columns):
            yield from batch.to_pylist()


def count_rows(path: Path) -> int:
    from pyarrow import parquet

    return int(parquet.read_metadata(path).num_rows)
