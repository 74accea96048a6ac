"""Folders of images, with captions in files beside them or in tables."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import IO, ClassVar

from pydantic import ConfigDict

from safelight.errors import RequestError, first_line
from safelight.images import SUFFIXES
from safelight.safe_training.cleaning import captions
from safelight.safe_training.cleaning.sample import BATCH, Sample
from safelight.safe_training.cleaning.storage import Storage, below, text
from safelight.storage.atomic_write import atomic_write, path_inside

_BESIDE = (".txt", ".json")
_TABLES = ("metadata.jsonl", "metadata.csv", "captions.jsonl", "captions.json", "captions.csv")
# Many shards, so that workers do not wait long for the last one; and the most samples of one.
_SHARDS, _MOST = 100, 1024
_TABLES_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class TableCaption:
    """A caption in a table, by its row and hash: captions are personal data and are not copied."""

    table: str
    row: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One sample: the path of its image, and its caption in a table (``told``) or in a file beside it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: str
    image: str | None
    told: TableCaption | None = None
    beside: str | None = None


@dataclass(frozen=True)
class FolderShard:
    """Some of the folder's samples.

    Their ids are relative paths, followed by a number for images with several captions; a caption without an
    image has its own path as id.
    """

    name: str
    url: str
    entries: tuple[Entry, ...]

    def samples(self) -> Iterator[Sample]:
        storage = Storage(self.url)
        for entry in self.entries:
            yield _sample(storage, entry)


def folder_shards(storage: Storage, files: Iterable[str]) -> list[FolderShard]:
    """Return the shards of the images among ``files``, sorted. Raises ``RequestError`` if there are none."""
    entries = _entries(storage, list(files))
    if not any(entry.image for entry in entries):
        raise RequestError(f"{storage.url} has no images in it; give a folder that has some.")
    size = _shard_size(len(entries))
    parts = [entries[i : i + size] for i in range(0, len(entries), size)]
    return [FolderShard(f"{i:06}", storage.url, tuple(part)) for i, part in enumerate(parts)]


def _shard_size(entries: int) -> int:
    return min(_MOST, BATCH * ceil(entries / _SHARDS / BATCH))


def _entries(storage: Storage, files: list[str]) -> list[Entry]:
    tables = [path for path in files if posixpath.basename(path).lower() in _TABLES]
    listed = _table_captions(storage, tables)
    images = {path for path in files if posixpath.splitext(path)[1].lower() in SUFFIXES}
    rest = {path for path in files if path.endswith(_BESIDE)} - set(tables)
    entries = []
    for path in sorted(images | listed.keys()):
        beside = [
            stem + suffix for suffix in _BESIDE if (stem := posixpath.splitext(path)[0]) + suffix in rest
        ]
        rest -= set(beside)
        mine = listed.get(path) or [None]
        for number, caption in enumerate(mine, 1):
            id_ = text(path) if number == 1 else f"{text(path)}#{number}"
            entries.append(Entry(id_, path, caption, beside[0] if beside and not caption else None))
    alone = (
        [Entry(text(path), None) for path in sorted(rest)] if any(entry.beside for entry in entries) else []
    )
    return sorted((*entries, *alone), key=lambda entry: entry.id)


def _table_captions(storage: Storage, tables: Iterable[str]) -> Mapping[str, list[TableCaption | None]]:
    """Return the captions in tables by path; paths in a table are relative to its folder."""
    listed: dict[str, list[TableCaption | None]] = {}
    for table in tables:
        try:
            rows = list(_rows(storage, table))
        except (OSError, captions.CaptionError) as error:
            raise RequestError(f"{storage.url}: {table} cannot be read: {first_line(error)}.") from error
        for number, (path, caption) in enumerate(rows):
            if path is not None:
                of = None if caption is None else TableCaption(table, number, _sha256(caption))
                listed.setdefault(_path(posixpath.dirname(table), path), []).append(of)
    return listed


def _rows(storage: Storage, table: str) -> Iterator[tuple[str | None, str | None]]:
    """Yield the path and caption of each row, None where missing. Raises ``OSError`` and ``CaptionError``."""
    with storage.opened(table) as file:
        encoded = file.read()
    for row in captions.rows_of(posixpath.basename(table).lower(), encoded):
        column = captions.column_of(row, captions.PATHS)
        try:
            caption = captions.of_row({k: v for k, v in row.items() if k != column})
        except captions.CaptionError:
            caption = None
        path = row[column] if column is not None else None
        yield path if isinstance(path, str) else None, caption


@lru_cache(_TABLES_AT_ONCE)
def _captions_of(url: str, table: str) -> Sequence[str | None]:
    """Return the captions of all rows, cached, as the shards of a folder use one table after the other."""
    return [caption for _, caption in _rows(Storage(url), table)]


def _sha256(caption: str) -> str:
    return sha256(caption.encode("utf-8", "surrogatepass")).hexdigest()


def _path(folder: str, path: str) -> str:
    """Return the path in the data; one that leads out of it is unchanged, and refused when it is read."""
    try:
        return below(folder, path)
    except OSError:
        return path


def _sample(storage: Storage, entry: Entry) -> Sample:
    caption = None

    def unread(why: str) -> Sample:
        return Sample(entry.id, entry.id, None, caption, why)

    if entry.image is None:
        return unread("there is no image for this caption.")
    try:
        caption = _caption(storage, entry)
        image = storage.read(below("", entry.image))
    except OSError as error:
        return unread(f"it cannot be read: {error.strerror or first_line(error)}.")
    except captions.CaptionError as error:
        return unread(str(error))
    return Sample(entry.id, entry.id, image, caption)


def copy_folder(shards: Iterable[tuple[FolderShard, Set[str]]], folder: Path) -> None:
    """Copy images and captions beside them; captions of tables go into one metadata.jsonl."""
    with ExitStack() as stack:
        table: IO[str] | None = None
        for shard, ids in shards:
            storage = Storage(shard.url)
            for entry in shard.entries:
                if entry.id not in ids:
                    continue
                for path in filter(None, (entry.image or entry.id, entry.beside)):
                    _copy(storage, path, folder)
                caption = _caption_in_table(storage, entry)
                if caption is None or entry.image is None:
                    continue
                if table is None:
                    part = stack.enter_context(atomic_write(path_inside(folder, _TABLES[0])))
                    table = stack.enter_context(part.open("w", encoding="utf-8"))
                row = {"file_name": text(entry.image), "text": caption}
                table.write(json.dumps(row, ensure_ascii=False) + "\n")


def _caption_in_table(storage: Storage, entry: Entry) -> str | None:
    """Return the caption of an entry in a table, None if it is gone."""
    with suppress(OSError, captions.CaptionError):
        return _caption(storage, entry) if entry.told else None
    return None


class _UnreadableError(Exception):
    """A file that cannot be read to its end."""


def _copy(storage: Storage, path: str, folder: Path) -> None:
    """Copy a file; nothing is left of one that cannot be read."""
    target = path_inside(folder, posixpath.normpath(path))
    with suppress(_UnreadableError):
        chunks = _chunks(storage, path)
        first = next(chunks, b"")
        if target.exists():  # copied for another caption of the same image
            return
        with atomic_write(target) as part, part.open("wb") as file:
            file.write(first)
            file.writelines(chunks)


def _chunks(storage: Storage, path: str) -> Iterator[bytes]:
    try:
        with storage.opened(below("", path)) as file:
            while chunk := file.read(1 << 20):
                yield chunk
    except OSError as error:
        raise _UnreadableError from error


def _caption(storage: Storage, entry: Entry) -> str | None:
    if entry.told:
        every = _captions_of(storage.url, entry.told.table)
        caption = every[entry.told.row] if entry.told.row < len(every) else None
        if caption is None or _sha256(caption) != entry.told.sha256:
            raise captions.CaptionError("its caption has changed since the data was listed.")
        return caption
    if entry.beside is None:
        return None
    read = captions.from_text if entry.beside.endswith(".txt") else captions.from_json
    return read(storage.read(entry.beside))
