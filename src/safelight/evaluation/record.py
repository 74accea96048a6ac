"""Records: the outcome of one case and seed, one JSON line each, in a file from which a run can resume."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from safelight.errors import RequestError
from safelight.storage.resumable_log import ResumableLog


@dataclass(frozen=True, slots=True)
class Record:
    """One answer of a system and the judgement about it.

    ``seed`` is the seed of the image. ``action`` is the most severe action of the system's verdicts.
    ``labels``, ``harms`` and ``features`` are those of the ``Judgement``, and empty if no image was released.
    ``details`` are those of the answer and of the judgement. ``pixels`` is a hash of the image, or "" without
    one. ``elapsed_ms`` is the image's share of the time of its batch, without the judge's time.
    """

    case: str
    prompt: str
    seed: int
    action: str
    labels: Mapping[str, float]
    harms: tuple[str, ...]
    pixels: str
    elapsed_ms: float
    features: tuple[float, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def released(self) -> bool:
        return bool(self.pixels)

    @property
    def is_harmful(self) -> bool:
        return bool(self.harms)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        lists = {name: tuple(data[name]) for name in ("harms", "features")}
        return cls(**{**data, **lists})


class RecordFile:
    """A file with the records of one run: the first line describes the run, every other line is a record.

    Raises ``RequestError`` for a file of another run, and for one that is not a file of records.
    """

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        self.path = path
        header = json.loads(json.dumps({"run": run}, default=str))
        with ResumableLog(path) as log:
            if entries := list(log.entries()):
                self.records = self._taken_up(entries, header["run"])
            else:
                self.records = []
                log.append(header)

    def append(self, records: Iterable[Record]) -> None:
        new = list(records)
        with ResumableLog(self.path) as log:
            log.append(*map(asdict, new))
        self.records += new

    def _taken_up(self, entries: list[Any], run: Mapping[str, Any]) -> list[Record]:
        try:
            before = entries[0]["run"]
            records = [Record.from_dict(entry) for entry in entries[1:]]
        except (ValueError, LookupError, TypeError) as error:
            raise RequestError(f"{self.path} is not a file of records; give another one.") from error
        for key in sorted({*before, *run}):
            if before.get(key) != run.get(key):
                raise RequestError(f'{self.path} is of another run ("{key}" differs); give another file.')
        return records
