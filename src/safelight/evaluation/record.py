"""Records: what came of one prompt and seed, one JSON line each, in a file that can be taken up again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from safelight.errors import RequestError
from safelight.storage.resumable_log import ResumableLog

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Seen:
    """An object that the judge saw; ``box`` is (left, top, right, bottom) as shares of the picture."""

    label: str
    score: float
    box: Box


@dataclass(frozen=True, slots=True)
class Record:
    """One answer of a system, judged. ``style`` and ``place`` are None where no picture was released.

    ``seed`` is the picture's own; ``harms`` are the categories of truth in what was seen;
    ``elapsed_ms`` is the picture's share of its batch, without the judge's time.
    """

    case: str
    prompt: str
    seed: int
    action: str
    seen: tuple[Seen, ...]
    style: str | None
    place: str | None
    harms: tuple[str, ...]
    elapsed_ms: float

    @property
    def labels(self) -> frozenset[str]:
        return frozenset(seen.label for seen in self.seen)

    @property
    def released(self) -> bool:
        return self.style is not None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        seen = tuple(Seen(row["label"], row["score"], tuple(row["box"])) for row in data["seen"])
        return cls(**{**data, "seen": seen, "harms": tuple(data["harms"])})


R = TypeVar("R")


class RecordFile(Generic[R]):
    """Records of one run: its first line says of which, every other line is a record, a dataclass that
    ``read`` makes again of its fields.

    Raises ``RequestError`` for a file of another run, or one that is no record file.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], read: Callable[[Mapping[str, Any]], R]) -> None:
        self.path = path
        self._read = read
        header = json.loads(json.dumps({"run": run}, default=str))
        with ResumableLog(path) as log:
            if entries := list(log.entries()):
                self.records = self._taken_up(entries, header["run"])
            else:
                self.records = []
                log.append(header)

    def append(self, records: Iterable[R]) -> None:
        new = list(records)
        with ResumableLog(self.path) as log:
            log.append(*(asdict(record) for record in new))  # type: ignore[call-overload]
        self.records += new

    def _taken_up(self, entries: list[Any], run: Mapping[str, Any]) -> list[R]:
        try:
            before = entries[0]["run"]
            records = [self._read(entry) for entry in entries[1:]]
        except (ValueError, LookupError, TypeError) as error:
            raise RequestError(f"{self.path} is not a file of records; give another one.") from error
        for key in sorted({*before, *run}):
            if before.get(key) != run.get(key):
                raise RequestError(f'{self.path} is of another run ("{key}" differs); give another file.')
        return records
