"""Copies of samples, in shards like those that they come from."""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from itertools import groupby
from pathlib import Path
from typing import Any

from safelight.alignment.training_data.sample import Shard
from safelight.alignment.training_data.sources.folder import FolderShard, copy_folder
from safelight.alignment.training_data.sources.table import ArrowShard, ParquetShard, copy_tables
from safelight.alignment.training_data.sources.web_dataset import TarShard, copy_tars
from safelight.storage.atomic_write import atomic_write

_COPY: dict[type[Any], Callable[[Iterable[tuple[Any, Set[str]]], Path], None]] = {
    FolderShard: copy_folder,
    TarShard: copy_tars,
    ParquetShard: copy_tables,
    ArrowShard: copy_tables,
}
# What of a folder is done already; no form takes it for a sample.
_DONE = ".copied"


def copy_samples(
    plan: Sequence[Shard],
    ids: Callable[[int], Set[str]],
    folder: Path,
    version: str,
    tell: Callable[[int], None] = lambda _: None,
) -> None:
    """The samples of each shard, by number, with these ``ids``, which are asked for in order; told after each
    file of the data is complete.

    Goes on with what was begun for the same ``version`` of the ids, and replaces what is there of another.
    ``folder`` has all of it or is not there. A file of which nothing can be read is not copied.
    """
    part = folder.with_name(f"{folder.name}.part")
    if _done(folder) == [version]:
        return
    if _done(part)[:1] != [version]:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _note(part, version)
    before = set(_done(part)[1:])
    for name, numbers in _files(plan):
        wanted = ((plan[number], ids(number)) for number in numbers)
        if name in before or not (copy := _COPY.get(type(plan[numbers[0]]))):
            deque(wanted, maxlen=0)
        else:
            copy(wanted, part)
            _note(part, name)
        tell(numbers[-1] + 1)
    with atomic_write(part / _DONE) as file:
        file.write_text(_line(version))
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)


def _files(plan: Sequence[Shard]) -> Iterator[tuple[str, list[int]]]:
    """Which shards are of one file, or of one folder."""

    def file(number: int) -> tuple[str, str]:
        return type(plan[number]).__name__, getattr(plan[number], "path", "")

    for (kind, path), numbers in groupby(range(len(plan)), file):
        yield f"{kind} {path}", list(numbers)


def _done(folder: Path) -> list[str]:
    """Without a line that was stopped while it was written."""
    path = folder / _DONE
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line[:1] == b'"' == line[-1:] and len(line) > 1]


def _note(folder: Path, done: str) -> None:
    with (folder / _DONE).open("a") as file:
        file.write(_line(done))


def _line(done: str) -> str:
    return json.dumps(done) + "\n"
