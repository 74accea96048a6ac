"""The plan: the list of a data set's shards, written once so that a resumed run has the same ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from safelight.errors import RequestError
from safelight.safe_training.cleaning.sample import Shard
from safelight.safe_training.cleaning.sources.folder import FolderShard
from safelight.safe_training.cleaning.sources.table import ArrowShard, DamagedFile, ParquetShard
from safelight.safe_training.cleaning.sources.web_dataset import TarShard
from safelight.storage.atomic_write import atomic_write

_KINDS: dict[str, type[Any]] = {
    each.__name__: each for each in (FolderShard, TarShard, ParquetShard, ArrowShard, DamagedFile)
}


def write_plan(path: Path, shards: Iterable[Shard]) -> None:
    """Write one line for each shard."""
    with (
        atomic_write(path) as part,
        part.open("w", encoding="utf-8", errors="surrogateescape") as file,
    ):
        for shard in shards:
            row = {"kind": type(shard).__name__, **asdict(shard)}  # type: ignore[call-overload]
            file.write(json.dumps(row) + "\n")


def read_plan(path: Path) -> Sequence[Shard]:
    """Read the shards. Raises ``RequestError`` for a damaged plan, or for one of an earlier version."""
    try:
        with path.open(encoding="utf-8") as file:
            return [_shard(json.loads(line)) for line in file]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RequestError(
            f"{path} is damaged, or of an earlier version of safelight; clean into another folder."
        ) from error


def count_shards(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _shard(row: dict[str, Any]) -> Shard:
    shard: Shard = _adapter(row.pop("kind")).validate_python(row)
    return shard


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter(_KINDS[kind])
