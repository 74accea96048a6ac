"""WebDataset: tar files in which the files of a sample share a name and follow one another."""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO

from safelight.errors import first_line
from safelight.images import SUFFIXES
from safelight.safe_training.cleaning import captions
from safelight.safe_training.cleaning.sample import Sample
from safelight.safe_training.cleaning.storage import Storage, read_image, text
from safelight.storage.atomic_write import atomic_write, escapes_folder, path_inside

# Errors that reading a damaged tar file raises.
_DAMAGE = (OSError, tarfile.TarError, EOFError, ValueError)
_CAPTIONS = (".txt", ".caption", ".text", ".json")
# The latest time that a tar file can store without extensions.
_LATEST = 8**11


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of a tar file, with its sample's id and name; ``again`` is whether the name came before."""

    id: str
    key: str
    extension: str
    about: tarfile.TarInfo
    file: IO[bytes]
    again: bool


@dataclass
class _Group:
    """The files of one sample, by extension."""

    id: str
    key: str
    again: bool
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def problem(self) -> str | None:
        if any(escapes_folder(f"{self.key}.{extension}") for extension in self.files):
            return "its name leads out of the folder that it would be unpacked into."
        return "another sample of this tar file has the same name." if self.again else None


@dataclass(frozen=True)
class TarShard:
    """One tar file, compressed or not; a sample's id is the file's path and the sample's name."""

    name: str
    url: str
    path: str

    def samples(self) -> Iterator[Sample]:
        group: _Group | None = None
        try:
            for member in self.members():
                if group and group.id != member.id:
                    yield _sample(group)
                    group = None
                group = group or _Group(member.id, member.key, member.again)
                group.files[member.extension] = read_image(member.file)
        except _DAMAGE as error:
            why = f"the tar file is damaged from here on: {first_line(error)}."
            yield Sample(
                group.id if group else f"{self.name}#end", group.key if group else "", None, None, why
            )
            return
        if group:
            yield _sample(group)

    def members(self) -> Iterator[_Member]:
        """Yield the members in order; each must be read before the next.

        Successive files of one name are one sample. Raises the errors in ``_DAMAGE``.
        """
        counts: Counter[str] = Counter()
        last, seen = None, set[str]()
        with Storage(self.url).opened(self.path) as source:
            for key, extension, about, file in _files(source):
                if key != last or extension in seen:
                    counts[key] += 1
                    last, seen = key, set()
                seen.add(extension)
                times = counts[key]
                id_ = f"{self.name}/{text(key)}" + (f"#{times}" if times > 1 else "")
                yield _Member(id_, text(key), extension, about, file, times > 1)


def _sample(group: _Group) -> Sample:
    def unread(why: str) -> Sample:
        return Sample(group.id, group.key, None, None, why)

    if group.problem:
        return unread(group.problem)
    shortest = sorted(group.files, key=lambda extension: extension.count("."))
    image = next((group.files[each] for each in shortest if _suffix(each) in SUFFIXES), None)
    try:
        caption = _caption(group)
    except captions.CaptionError as error:
        return unread(str(error))
    if image is None:
        return Sample(group.id, group.key, None, caption, "there is no image for this caption.")
    return Sample(group.id, group.key, image, caption)


def copy_tars(shards: Iterable[tuple[TarShard, Set[str]]], folder: Path) -> None:
    """Copy all files of these samples into uncompressed tar files.

    Contents, names, times and permissions stay as they were. Other metadata is left out, and so are files
    that would be unpacked outside their folder.
    """
    for shard, ids in shards:
        with ExitStack() as stack:
            archive: tarfile.TarFile | None = None
            for member, content in _until_damaged(shard):
                if member.id not in ids or escapes_folder(member.about.name):
                    continue
                if archive is None:
                    part = stack.enter_context(atomic_write(path_inside(folder, _uncompressed(shard.path))))
                    archive = stack.enter_context(tarfile.open(part, "w", errors="surrogateescape"))
                archive.addfile(_plain(member.about, len(content)), BytesIO(content))


def _plain(about: tarfile.TarInfo, size: int) -> tarfile.TarInfo:
    """Return the header without owner, extended attributes, setuid and setgid bits."""
    plain = tarfile.TarInfo(about.name)
    plain.size, plain.mode = size, about.mode & 0o777
    plain.mtime = about.mtime if 0 <= about.mtime < _LATEST else 0
    return plain


def _until_damaged(shard: TarShard) -> Iterator[tuple[_Member, bytes]]:
    with suppress(*_DAMAGE):
        for member in shard.members():
            yield member, member.file.read()


def _uncompressed(path: str) -> str:
    return re.sub(r"(\.tar\.\w+|\.tgz)$", ".tar", path)


def _files(source: IO[bytes]) -> Iterator[tuple[str, str, tarfile.TarInfo, IO[bytes]]]:
    """Yield the name and extension of each file, its tar header, and the opened file."""
    with tarfile.open(fileobj=source, mode="r|*", errors="surrogateescape") as archive:
        for member in archive:
            folder, name = posixpath.split(member.name)
            if not member.isreg() or name.startswith((".", "__")):
                continue
            stem, _, extension = name.partition(".")
            opened = archive.extractfile(member)
            if opened is not None:
                yield posixpath.join(folder, stem), extension.lower(), member, opened


def _suffix(extension: str) -> str:
    """Return the last suffix of an extension: ".png" of "seg.png"."""
    return f".{extension.rpartition('.')[2]}"


def _caption(group: _Group) -> str | None:
    for wanted in _CAPTIONS:
        for extension, data in group.files.items():
            if f".{extension}" == wanted:
                caption = captions.from_json(data) if wanted == ".json" else captions.from_text(data)
                if caption is not None:
                    return caption
    return None
