"""The journal of a shard that is being screened, from which an interrupted run resumes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from safelight.safe_training.cleaning.findings import are_rows
from safelight.storage.resumable_log import ResumableLog

_DIED = "died"


class Journal:
    """The rows of every screened batch of one shard.

    Lines from the first damaged one on are ignored; a killed program may leave one. ``rows`` is the number of
    samples done, ``deaths`` how often workers have died since the last completed batch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Locked, as a worker may outlive its killed program by one batch and still write.
        self._log = ResumableLog(path, locked=True, valid=lambda entry: entry == _DIED or are_rows(entry))
        self.rows = self.deaths = 0
        for entry in self._log.entries():
            self._count(entry)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._log.close()

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._add(list(rows))

    def add_death(self) -> None:
        self._add(_DIED)

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the rows in order."""
        for entry in self._log.entries():
            if entry != _DIED:
                yield from entry

    def _add(self, entry: Any) -> None:
        self._log.append(entry)
        self._count(entry)

    def _count(self, entry: Any) -> None:
        if entry == _DIED:
            self.deaths += 1
        else:
            self.rows, self.deaths = self.rows + len(entry), 0
