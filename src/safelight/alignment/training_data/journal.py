"""What is known already of a shard that is being screened, kept after every batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from safelight.alignment.training_data.findings import are_rows
from safelight.storage.resumable_log import ResumableLog

_DIED = "died"


class Journal:
    """The rows of each batch. From the first damaged line on, say of a program that was killed in the middle
    of one, it is as if nothing had been written.

    ``rows`` is how many samples are done, ``deaths`` how often since the last one a worker died at it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Locked: a worker may outlive its killed program by a batch; until then nobody else writes.
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
        """The rows in order."""
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
