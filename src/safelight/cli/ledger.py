"""A file of records that a run which was stopped goes on with."""

from __future__ import annotations

import json
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from safelight.cli.item import Item
from safelight.cli.record import names_of
from safelight.errors import RequestError
from safelight.evaluation.policy_diff import RECORD_NAMES
from safelight.storage.private_file import private_opener
from safelight.types import Action


class Ledger:
    """One record a line. What an earlier run left is kept, but for a last line that it did not finish and
    for what could not be read or screened: that is tried again.

    A record belongs to an item of the same name and content, so what was changed is screened again. The file
    is for its owner only, as it may have words of prompts in it. Raises ``RequestError`` for a file that
    cannot be written, has something else in it, or has another policy's records.
    """

    def __init__(self, path: Path, policy: str) -> None:
        self.actions: Counter[Action] = Counter()
        self.errors = 0
        self.done = 0
        self._path = path
        self._left: Counter[str] = Counter()
        with self._reported():
            self._file = self._open(policy)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    @property
    def others(self) -> int:
        """Records of earlier runs that belong to none of the items."""
        return self._left.total()

    def missing(self, items: Iterable[Item]) -> Iterator[Item]:
        """Those of ``items`` that the earlier runs left no record of; of two that look the same, both."""
        for item in items:
            key = _key(names_of(item)) if self.others else ""
            if self._left[key]:
                self._left[key] -= 1
                self.done += 1
            else:
                yield item

    def add(self, record: Mapping[str, Any]) -> None:
        with self._reported():
            self._write(json.dumps(record, default=str).encode() + b"\n")
        self.actions[Action(record["action"])] += 1
        self.errors += "error" in record
        self.done += 1

    def _write(self, line: bytes) -> None:
        """Unbuffered: what a full disk did not take would fail again when the file is closed."""
        while line:
            line = line[self._file.write(line) :]

    def _open(self, policy: str) -> FileIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            self._keep(policy)
        return FileIO(self._path, "ab", opener=private_opener)

    def _keep(self, policy: str) -> None:
        """Leaves in the file what goes on being true."""
        if not stat.S_ISREG(self._path.stat().st_mode):
            raise RequestError(f"{self._path} is not a regular file; give another --out.")
        path = self._path.resolve()
        kept = path.with_name(f"{path.name}.part")
        try:
            with path.open("rb") as old, FileIO(kept, "wb", opener=private_opener) as new:
                for line in old:
                    self._keep_line(line, policy, new)
            kept.replace(path)
        finally:
            kept.unlink(missing_ok=True)

    def _keep_line(self, line: bytes, policy: str, new: BinaryIO) -> None:
        if not line.endswith(b"\n") or "error" in (record := _record(self._path, line, policy)):
            return
        new.write(line)
        self._left[_key(record)] += 1
        self.actions[Action(record["action"])] += 1

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            sentence = f"{self._path} cannot be written: {error.strerror or error}; give another --out."
            raise RequestError(sentence) from error


def _key(names: Mapping[str, Any]) -> str:
    known = {name: names[name] for name in RECORD_NAMES if name in names}
    return json.dumps(known, sort_keys=True, default=str)


def _record(path: Path, line: bytes, policy: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
        made_by = str(record["policy"])
        Action(record["action"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RequestError(f"{path} has something else than records in it; give another file.") from error
    if made_by != policy:
        raise RequestError(f'{path} has records of the policy "{made_by}"; give another file for "{policy}".')
    return dict(record)
