"""Tables with one image per row: Parquet files, and the Arrow files of the datasets library."""

from __future__ import annotations

import posixpath
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.errors import MissingExtraError, RequestError, first_line, unknown_name
from safelight.safe_training.cleaning import captions
from safelight.safe_training.cleaning.sample import Sample
from safelight.safe_training.cleaning.storage import Storage, below
from safelight.storage.atomic_write import atomic_write, path_inside

if TYPE_CHECKING:
    from pyarrow import RecordBatch, Schema

# Columns of encoded bytes, of paths, or of objects with both, as the datasets library writes them.
_IMAGES = ("image", "picture", "jpg", "jpeg", "png", "webp", "img", "bytes", "image_bytes")
_KEYS = ("id", "uid", "key", "__key__", "sample_id")
_AT_ONCE = 64
# Longer texts are not taken for paths.
_LONGEST_PATH = 4096


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of image, caption and key."""

    image: str
    caption: str | None
    key: str | None

    @classmethod
    def of(cls, names: Sequence[str], where: str, image: str | None, caption: str | None) -> Columns:
        """Return the named columns, or detect them. Raises ``RequestError`` for a missing column."""
        for wanted in (image, caption):
            if wanted and wanted not in names:
                raise RequestError(f"{where}: {unknown_name('column', wanted, names)}")
        found = image or captions.column_of(names, (*_IMAGES, *captions.PATHS))
        if not found:
            raise RequestError(
                f"{where} has no column of images with a known name; give it with --image-column."
            )
        return cls(
            found, caption or captions.column_of(names, captions.CAPTIONS), captions.column_of(names, _KEYS)
        )

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for name in (self.image, self.caption, self.key) if name))


@dataclass(frozen=True)
class TableShard(ABC):
    """Rows of a file from row ``first`` on; ids are the file's path and the row's number."""

    name: str
    url: str
    path: str
    columns: Columns
    first: int = 0

    @abstractmethod
    def batches(self, names: Sequence[str] | None = None, rows: int | None = None) -> Iterator[RecordBatch]:
        """Yield batches of all columns or of ``names``, of ``rows`` each where that can be chosen.

        Raises ``OSError`` and ``ArrowException``.
        """

    @abstractmethod
    def after(self, rows: int) -> range:
        """Return the numbers of the rows that are known to follow the first ``rows``."""

    @staticmethod
    @abstractmethod
    def writer(path: Path, schema: Schema) -> Any:
        """Return a writer of the same kind of file: a context with ``write_batch``."""

    def samples(self) -> Iterator[Sample]:
        from pyarrow import ArrowException

        storage, done = Storage(self.url), 0
        try:
            for batch in self.batches(self.columns.names, _AT_ONCE):
                for row in batch.to_pylist():
                    yield _sample(storage, self.path, self.first + done, row, self.columns)
                    done += 1
        except (ArrowException, OSError) as error:
            why = f"the file is damaged from here on: {first_line(error)}."
            for number in self.after(done):
                yield Sample(f"{self.path}#{number}", "", None, None, why)


@dataclass(frozen=True)
class ParquetShard(TableShard):
    """One row group of a Parquet file."""

    group: int = 0
    rows: int = 0

    def batches(self, names: Sequence[str] | None = None, rows: int | None = None) -> Iterator[RecordBatch]:
        from pyarrow import parquet

        with Storage(self.url).opened(self.path) as source:
            yield from parquet.ParquetFile(source).iter_batches(
                rows or max(1, self.rows), [self.group], names
            )

    def after(self, rows: int) -> range:
        return range(self.first + rows, self.first + self.rows)

    @staticmethod
    def writer(path: Path, schema: Schema) -> Any:
        from pyarrow import parquet

        return parquet.ParquetWriter(path, schema, compression="zstd")


@dataclass(frozen=True)
class ArrowShard(TableShard):
    """One Arrow file of a data set that the datasets library saved."""

    def batches(self, names: Sequence[str] | None = None, rows: int | None = None) -> Iterator[RecordBatch]:
        from pyarrow import ipc

        with Storage(self.url).opened(self.path) as source, ipc.open_stream(source) as stream:
            for batch in stream:
                yield batch.select(names) if names else batch

    def after(self, rows: int) -> range:
        return range(rows, rows + 1)

    @staticmethod
    def writer(path: Path, schema: Schema) -> Any:
        from pyarrow import ipc

        return ipc.new_stream(path, schema)


@dataclass(frozen=True)
class DamagedFile:
    """A file that cannot be read at all, as one unreadable sample."""

    name: str
    problem: str

    def samples(self) -> Iterator[Sample]:
        yield Sample(self.name, self.name, None, None, self.problem)


def parquet_shards(
    storage: Storage, files: Sequence[str], image: str | None = None, caption: str | None = None
) -> list[ParquetShard | DamagedFile]:
    """Return a shard for each row group of each file. Raises ``RequestError`` if a column is missing."""
    try:
        from pyarrow import ArrowException
    except ImportError as error:
        raise MissingExtraError("Parquet", "data") from error
    shards: list[ParquetShard | DamagedFile] = []
    for path in files:
        try:
            shards += _groups(storage, path, image, caption)
        except (ArrowException, OSError) as error:
            why = f"it cannot be read as Parquet: {first_line(error)}."
            shards.append(DamagedFile(path, why))
    return shards


def _groups(storage: Storage, path: str, image: str | None, caption: str | None) -> Iterator[ParquetShard]:
    from pyarrow import parquet

    with storage.opened(path) as source:
        file = parquet.ParquetFile(source)
        columns = Columns.of(file.schema_arrow.names, path, image, caption)
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    first = 0
    for group, rows in enumerate(sizes):
        name = f"{path}-{group}" if len(sizes) > 1 else path
        yield ParquetShard(name, storage.url, path, columns, first, group, rows)
        first += rows


def arrow_shards(
    storage: Storage, files: Sequence[str], image: str | None = None, caption: str | None = None
) -> list[ArrowShard | DamagedFile]:
    """Return a shard for each file. Raises ``RequestError`` if a column is missing."""
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
        shards.append(ArrowShard(path, storage.url, path, Columns.of(names, path, image, caption)))
    return shards


def copy_tables(shards: Iterable[tuple[TableShard, Set[str]]], folder: Path) -> None:
    """Copy the rows with these ids of one file, in their row groups."""
    from pyarrow import array

    with ExitStack() as stack:
        writer: Any = None
        for shard, ids in shards:
            number = shard.first
            for batch in _until_damaged(shard):
                numbers = range(number, number := number + batch.num_rows)
                rows = batch.filter(array([f"{shard.path}#{each}" in ids for each in numbers]))
                if not rows.num_rows:
                    continue
                if writer is None:
                    part = stack.enter_context(atomic_write(path_inside(folder, shard.path)))
                    writer = stack.enter_context(shard.writer(part, batch.schema))
                writer.write_batch(rows)


def _until_damaged(shard: TableShard) -> Iterator[RecordBatch]:
    from pyarrow import ArrowException

    with suppress(ArrowException, OSError):
        yield from shard.batches()


def _sample(storage: Storage, path: str, number: int, row: Mapping[str, Any], columns: Columns) -> Sample:
    id_, key = f"{path}#{number}", str(row[columns.key]) if columns.key else ""
    try:
        caption = captions.of_row(row, columns.caption) if columns.caption else None
        return Sample(id_, key, _image(storage, path, row[columns.image]), caption)
    except captions.CaptionError as error:
        return Sample(id_, key, None, None, str(error))
    except OSError as error:
        return Sample(id_, key, None, None, f"it cannot be read: {error.strerror or first_line(error)}.")


def _image(storage: Storage, path: str, cell: Any) -> bytes:
    """Return the encoded image in a cell. Raises ``OSError`` if there is none."""
    if isinstance(cell, Mapping):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes):
        return cell
    if not isinstance(cell, str) or not cell or len(cell) > _LONGEST_PATH:
        raise OSError("there is no image in this row")
    return storage.read(below(posixpath.dirname(path), cell))
