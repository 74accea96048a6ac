"""Tables with a picture in each row: Parquet files, and the Arrow files of the datasets library."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safelight.alignment.training_data import captions
from safelight.alignment.training_data.sample import Sample
from safelight.alignment.training_data.storage import Storage, below
from safelight.errors import MissingExtraError, RequestError, first_line, no_such

# Encoded bytes, a path, or an object with both, as the datasets library has it.
_PICTURES = ("image", "picture", "jpg", "jpeg", "png", "webp", "img", "bytes", "image_bytes")
_KEYS = ("id", "uid", "key", "__key__", "sample_id")
_AT_ONCE = 64
# Longer ones are no paths.
_LONGEST_PATH = 4096


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns have what."""

    picture: str
    caption: str | None
    key: str | None

    @classmethod
    def of(cls, names: Sequence[str], where: str, picture: str | None, caption: str | None) -> Columns:
        """Those that were named, or the likeliest. Raises ``RequestError`` if there is no such column."""
        for wanted in (picture, caption):
            if wanted and wanted not in names:
                raise RequestError(f"{where}: {no_such('column', wanted, names)}")
        found = picture or captions.column_of(names, (*_PICTURES, *captions.PATHS))
        if not found:
            raise RequestError(f"{where} has no column of pictures that is known; name it with --picture.")
        return cls(
            found, caption or captions.column_of(names, captions.CAPTIONS), captions.column_of(names, _KEYS)
        )

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for name in (self.picture, self.caption, self.key) if name))


@dataclass(frozen=True)
class ParquetShard:
    """One group of rows. Ids are the file's path and the number of the row in it."""

    name: str
    url: str
    path: str
    group: int
    first: int
    rows: int
    columns: Columns

    def samples(self) -> Iterator[Sample]:
        from pyarrow import ArrowException, parquet

        storage, done = Storage(self.url), 0
        try:
            with storage.opened(self.path) as source:
                file = parquet.ParquetFile(source)
                for batch in file.iter_batches(_AT_ONCE, [self.group], self.columns.names):
                    for row in batch.to_pylist():
                        yield _sample(storage, self.path, self.first + done, row, self.columns)
                        done += 1
        except (ArrowException, OSError) as error:
            yield from _rest(self.path, range(self.first + done, self.first + self.rows), error)


@dataclass(frozen=True)
class ArrowShard:
    """One file of a data set that the datasets library saved."""

    name: str
    url: str
    path: str
    columns: Columns

    def samples(self) -> Iterator[Sample]:
        from pyarrow import ArrowException, ipc

        storage, done = Storage(self.url), 0
        try:
            with storage.opened(self.path) as source, ipc.open_stream(source) as stream:
                for batch in stream:
                    for row in batch.select(self.columns.names).to_pylist():
                        yield _sample(storage, self.path, done, row, self.columns)
                        done += 1
        except (ArrowException, OSError) as error:
            yield from _rest(self.path, range(done, done + 1), error)


@dataclass(frozen=True)
class DamagedFile:
    """A file of which nothing can be read, as one sample."""

    name: str
    problem: str

    def samples(self) -> Iterator[Sample]:
        yield Sample(self.name, self.name, None, None, self.problem)


def parquet_shards(
    storage: Storage, files: Sequence[str], picture: str | None = None, caption: str | None = None
) -> list[ParquetShard | DamagedFile]:
    """A shard for each group of rows of each file. Raises ``RequestError`` for a file without the columns."""
    try:
        from pyarrow import ArrowException
    except ImportError as error:
        raise MissingExtraError("Parquet", "data") from error
    shards: list[ParquetShard | DamagedFile] = []
    for path in files:
        try:
            shards += _groups(storage, path, picture, caption)
        except (ArrowException, OSError) as error:
            why = f"it cannot be read as Parquet: {first_line(error)}."
            shards.append(DamagedFile(path, why))
    return shards


def _groups(storage: Storage, path: str, picture: str | None, caption: str | None) -> Iterator[ParquetShard]:
    from pyarrow import parquet

    with storage.opened(path) as source:
        file = parquet.ParquetFile(source)
        columns = Columns.of(file.schema_arrow.names, path, picture, caption)
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    first = 0
    for group, rows in enumerate(sizes):
        name = f"{path}-{group}" if len(sizes) > 1 else path
        yield ParquetShard(name, storage.url, path, group, first, rows, columns)
        first += rows


def arrow_shards(
    storage: Storage, files: Sequence[str], picture: str | None = None, caption: str | None = None
) -> list[ArrowShard | DamagedFile]:
    """A shard for each file. Raises ``RequestError`` for a file without the columns."""
    try:
        from pyarrow import ArrowException, ipc
    except ImportError as error:
        raise MissingExtraError("A saved data set", "data") from error
    shards: list[ArrowShard | DamagedFile] = []
    for path in files:
        try:
            with storage.opened(path) as source, ipc.open_stream(source) as stream:
                names = stream.schema.names
        except (ArrowException, OSError) as error:
            shards.append(DamagedFile(path, f"it cannot be read as Arrow: {first_line(error)}."))
            continue
        shards.append(ArrowShard(path, storage.url, path, Columns.of(names, path, picture, caption)))
    return shards


def _rest(path: str, numbers: range, error: Exception) -> Iterator[Sample]:
    why = f"the file is damaged from here on: {first_line(error)}."
    for number in numbers:
        yield Sample(f"{path}#{number}", "", None, None, why)


def _sample(storage: Storage, path: str, number: int, row: Mapping[str, Any], columns: Columns) -> Sample:
    id_, key = f"{path}#{number}", str(row[columns.key]) if columns.key else ""
    try:
        caption = captions.of_row(row, columns.caption) if columns.caption else None
        return Sample(id_, key, _picture(storage, path, row[columns.picture]), caption)
    except captions.CaptionError as error:
        return Sample(id_, key, None, None, str(error))
    except OSError as error:
        return Sample(id_, key, None, None, f"it cannot be read: {error.strerror or first_line(error)}.")


def _picture(storage: Storage, path: str, cell: Any) -> bytes:
    """Raises ``OSError`` if there is none."""
    if isinstance(cell, Mapping):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes):
        return cell
    if not isinstance(cell, str) or not cell or len(cell) > _LONGEST_PATH:
        raise OSError("there is no picture in this row")
    return storage.read(below(posixpath.dirname(path), cell))
