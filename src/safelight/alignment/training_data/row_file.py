"""A Parquet file that is written row by row, and put in its place when it is complete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pyarrow import Schema

_ROWS = 4096


class RowFile:
    """A context; of one that is left with an error nothing remains."""

    def __init__(self, path: Path, schema: Schema) -> None:
        from pyarrow import parquet

        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._schema = schema
        self._file = parquet.ParquetWriter(self._part, schema, compression="zstd")
        self._rows: list[Mapping[str, Any]] = []
        self.written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._file.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink()

    def add(self, row: Mapping[str, Any]) -> None:
        self._rows.append(row)
        self.written += 1
        if len(self._rows) == _ROWS:
            self._flush()

    def _flush(self) -> None:
        from pyarrow import Table

        if self._rows:
            self._file.write_table(Table.from_pylist(self._rows, self._schema))
            self._rows = []


def rows_in(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """All columns or these."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS, columns=columns):
            yield from batch.to_pylist()


def count_rows(path: Path) -> int:
    from pyarrow import parquet

    return int(parquet.read_metadata(path).num_rows)
