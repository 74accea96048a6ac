"""A file of records that a run which was stopped goes on with."""

from __future__ import annotations

import json
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from safelight.cli.item import Item
from safelight.cli.record import names_of
from safelight.errors import RequestError
from safelight.evaluation.policy_diff import RECORD_NAMES
from safelight.storage.resumable_log import ResumableLog, keep_entries
from safelight.types import Action


class ScreeningLog:
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
            if path.exists():
                self._keep(policy)
            self._log = ResumableLog(path, private=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._log.close()

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
            self._log.append(record)
        self.actions[Action(record["action"])] += 1
        self.errors += "error" in record
        self.done += 1

    def _keep(self, policy: str) -> None:
        """Leaves in the file what goes on being true."""
        if not stat.S_ISREG(self._path.stat().st_mode):
            raise RequestError(f"{self._path} is not a regular file; give another --out.")
        keep_entries(self._path, partial(self._is_kept, policy), private=True)

    def _is_kept(self, policy: str, entry: Any) -> bool:
        record = _record(self._path, entry, policy)
        if "error" in record:
            return False
        self._left[_key(record)] += 1
        self.actions[Action(record["action"])] += 1
        return True

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


def _record(path: Path, record: Any, policy: str) -> dict[str, Any]:
    try:
        made_by = str(record["policy"])
        Action(record["action"])
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path} has something else than records in it; give another file.") from error
    if made_by != policy:
        raise RequestError(f'{path} has records of the policy "{made_by}"; give another file for "{policy}".')
    return dict(record)
