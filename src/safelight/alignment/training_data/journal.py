"""What is known already of a shard that is being screened, kept after every batch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from safelight.alignment.training_data.findings import are_rows

_DIED = "died"


class Journal:
    """The rows of a batch on each line. From the first damaged line on, say of a program that was killed in
    the middle of one, it is as if nothing had been written.

    ``rows`` is how many samples are done, ``deaths`` how often since the last one a worker died at it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = self.deaths = 0
        path.touch()
        self._file = path.open("r+b")
        self._lock()
        self._file.seek(self._mend())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._write(list(rows))
        self.rows, self.deaths = self.rows + len(rows), 0

    def add_death(self) -> None:
        self._write(_DIED)
        self.deaths += 1

    def read(self) -> Iterator[dict[str, Any]]:
        """The rows in order."""
        with self.path.open("rb") as file:
            for line in file:
                if (rows := json.loads(line)) != _DIED:
                    yield from rows

    def _write(self, entry: Any) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()

    def _lock(self) -> None:
        """A worker may outlive its killed program by a batch; until then nobody else writes."""
        try:
            import fcntl
        except ImportError:
            return
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def _mend(self) -> int:
        """Counts what is whole, and cuts off the rest. Gives the end."""
        end = 0
        for line in self._file:
            entry = _whole(line)
            if entry is None:
                break
            died = entry == _DIED
            self.rows, self.deaths = (self.rows, self.deaths + 1) if died else (self.rows + len(entry), 0)
            end += len(line)
        self._file.truncate(end)
        return end


def _whole(line: bytes) -> Any:
    """Return what is on the line; None where that is not what was written."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if entry == _DIED or are_rows(entry) else None
