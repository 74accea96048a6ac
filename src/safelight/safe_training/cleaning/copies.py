"""Copying samples in the format and the shards of the data."""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from itertools import groupby
from pathlib import Path
from typing import Any

from safelight.safe_training.cleaning.sample import Shard
from safelight.safe_training.cleaning.sources.folder import FolderShard, copy_folder
from safelight.safe_training.cleaning.sources.table import ArrowShard, ParquetShard, copy_tables
from safelight.safe_training.cleaning.sources.web_dataset import TarShard, copy_tars
from safelight.storage.atomic_write import atomic_write

_COPY: dict[type[Any], Callable[[Iterable[tuple[Any, Set[str]]], Path], None]] = {
    FolderShard: copy_folder,
    TarShard: copy_tars,
    ParquetShard: copy_tables,
    ArrowShard: copy_tables,
}
# Lists the files that are copied already; no format takes it for a sample.
_DONE = ".copied"


def copy_samples(
    plan: Sequence[Shard],
    ids: Callable[[int], Set[str]],
    folder: Path,
    version: str,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Copy the samples with the ``ids`` of each shard number to ``folder``.

    ``ids`` is called for shards in order, and ``progress`` after each complete file. A copy that was started
    for the same ``version`` of the ids resumes; one of another version is replaced. ``folder`` appears only
    when the copy is complete. Files that cannot be read at all are not copied.
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
        progress(numbers[-1] + 1)
    with atomic_write(part / _DONE) as file:
        file.write_text(_line(version))
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)


def _files(plan: Sequence[Shard]) -> Iterator[tuple[str, list[int]]]:
    """Yield the name of each file or folder of the data, and the numbers of its shards."""

    def file(number: int) -> tuple[str, str]:
        return type(plan[number]).__name__, getattr(plan[number], "path", "")

    for (kind, path), numbers in groupby(range(len(plan)), file):
        yield f"{kind} {path}", list(numbers)


def _done(folder: Path) -> list[str]:
    """Return what the folder lists as copied, without an unfinished last line."""
    path = folder / _DONE
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line[:1] == b'"' == line[-1:] and len(line) > 1]


def _note(folder: Path, done: str) -> None:
    with (folder / _DONE).open("a") as file:
        file.write(_line(done))


def _line(done: str) -> str:
    return json.dumps(done) + "\n"
