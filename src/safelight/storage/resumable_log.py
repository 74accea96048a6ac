"""An append-only log of JSON lines that remains usable if the program is killed while writing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from safelight.errors import RequestError
from safelight.storage.atomic_write import atomic_write
from safelight.storage.private_file import private_opener

_CHUNK = 1 << 16

Check = Callable[[Any], bool]


class ResumableLog:
    """An append-only log with one JSON entry per line.

    Opening the log removes an incomplete last line. With ``valid`` it also removes the first entry that is
    damaged or for which ``valid`` is false, and everything after it. A ``private`` log can be read by its
    owner only. With ``locked``, opening waits until no other process has the log open, on systems that have
    such locks. Raises ``OSError`` for a file that cannot be written.
    """

    def __init__(
        self, path: Path, *, private: bool = False, locked: bool = False, valid: Check | None = None
    ) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered, because closing a buffered file would repeat a write that failed on a full disk.
        self._file = FileIO(path, "a+b", opener=private_opener if private else None)
        if locked:
            _lock(self._file)
        self._file.truncate(_end_of_valid(path, valid) if valid else _end_of_lines(self._file))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def entries(self) -> Iterator[Any]:
        """Yield every entry from the first on. Raises ``RequestError`` at a line that is not JSON."""
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield _parsed(self.path, number, line)

    def append(self, *entries: Any) -> None:
        """Append the entries. Values that JSON cannot represent are written as their ``str``."""
        data = b"".join(json.dumps(entry, default=str).encode() + b"\n" for entry in entries)
        while data:
            data = data[self._file.write(data) :]


def keep_entries(path: Path, is_kept: Check, private: bool = False) -> None:
    """Remove the entries of a closed log for which ``is_kept`` is false, atomically.

    Raises ``RequestError`` for a line that is not JSON, and the errors of ``is_kept``.
    """
    path = path.resolve()
    opener = private_opener if private else None
    with atomic_write(path) as part, path.open("rb") as old, open(part, "wb", opener=opener) as new:
        for number, line in enumerate(old, 1):
            if line.endswith(b"\n") and is_kept(_parsed(path, number, line)):
                new.write(line)


def _parsed(path: Path, number: int, line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"line {number} of {path} is not valid JSON; give another file.") from error


def _end_of_lines(file: FileIO) -> int:
    """Return the length of the file without an incomplete last line, read from the end."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _CHUNK)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _end_of_valid(path: Path, valid: Check) -> int:
    end = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n") or not _is_valid(line, valid):
                break
            end += len(line)
    return end


def _is_valid(line: bytes, valid: Check) -> bool:
    try:
        return valid(json.loads(line))
    except (ValueError, RecursionError):
        return False


def _lock(file: FileIO) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    fcntl.flock(file, fcntl.LOCK_EX)
