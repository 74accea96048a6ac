"""WebDataset: tar files in which what belongs together has one name and stands together."""

from __future__ import annotations

import posixpath
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from safelight.alignment.training_data import captions
from safelight.alignment.training_data.sample import Sample
from safelight.alignment.training_data.storage import Storage, read_picture, text
from safelight.errors import first_line
from safelight.pictures import SUFFIXES

_CAPTIONS = (".txt", ".caption", ".text", ".json")


@dataclass
class _Group:
    """The files of one sample, by what comes after its name."""

    key: str
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class TarShard:
    """One tar file, compressed or not. The id of a sample is the file's path and the sample's name."""

    name: str
    url: str
    path: str

    def samples(self) -> Iterator[Sample]:
        counts: Counter[str] = Counter()
        groups = _Groups(self)
        for group in groups:
            counts[group.key] += 1
            yield self._sample(group, counts[group.key])
        if groups.problem:
            cut = text(groups.cut)
            yield Sample(f"{self.name}/{cut}" if cut else f"{self.name}#end", cut, None, None, groups.problem)

    def _sample(self, group: _Group, times: int) -> Sample:
        id_ = f"{self.name}/{text(group.key)}"
        if times > 1:
            why = "another sample of this tar file has the same name."
            return Sample(f"{id_}#{times}", text(group.key), None, None, why)
        shortest = sorted(group.files, key=lambda extension: extension.count("."))
        picture = next((group.files[each] for each in shortest if _suffix(each) in SUFFIXES), None)
        try:
            caption = _caption(group)
        except captions.CaptionError as error:
            return Sample(id_, text(group.key), None, None, str(error))
        problem = None if picture is not None else "there is no picture for this caption."
        return Sample(id_, text(group.key), picture, caption, problem)


class _Groups:
    """The samples of a tar file in order; ``problem`` is afterwards why it could not be read to its end, and
    ``cut`` the name of a sample of which some may be missing."""

    def __init__(self, shard: TarShard) -> None:
        self._shard = shard
        self.problem: str | None = None
        self.cut = ""

    def __iter__(self) -> Iterator[_Group]:
        group: _Group | None = None
        try:
            with Storage(self._shard.url).opened(self._shard.path) as file:
                for key, extension, member in _members(file):
                    if group and (group.key != key or extension in group.files):
                        yield group
                        group = None
                    group = group or _Group(key)
                    group.files[extension] = read_picture(member)
        except (OSError, tarfile.TarError, EOFError, ValueError) as error:
            self.cut = group.key if group else ""
            self.problem = f"the tar file is damaged from here on: {first_line(error)}."
            return
        if group:
            yield group


def _members(file: IO[bytes]) -> Iterator[tuple[str, str, IO[bytes]]]:
    """Name and extension of each file, opened."""
    with tarfile.open(fileobj=file, mode="r|*", errors="surrogateescape") as archive:
        for member in archive:
            folder, name = posixpath.split(member.name)
            if not member.isreg() or name.startswith((".", "__")):
                continue
            stem, _, extension = name.partition(".")
            opened = archive.extractfile(member)
            if opened is not None:
                yield posixpath.join(folder, stem), extension.lower(), opened


def _suffix(extension: str) -> str:
    """Of "seg.png" that of the whole."""
    return f".{extension.rpartition('.')[2]}"


def _caption(group: _Group) -> str | None:
    for wanted in _CAPTIONS:
        for extension, data in group.files.items():
            if f".{extension}" == wanted:
                caption = captions.from_json(data) if wanted == ".json" else captions.from_text(data)
                if caption is not None:
                    return caption
    return None
