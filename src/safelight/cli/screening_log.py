"""The output file of ``safelight screen --output``, with which an interrupted run resumes."""

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
    """A file of records, one per line, to which an interrupted run appends when it resumes.

    Records of earlier runs are kept, except for an unfinished last line and for items that could not be read
    or screened, which are screened again. A record belongs to the item of the same name and content, so
    changed items are screened again too. The file is readable by its owner only, as it may contain words of
    prompts. Raises ``RequestError`` for a file that cannot be written, that contains anything but records, or
    that has records of another policy.
    """

    def __init__(self, path: Path, policy: str) -> None:
        self.actions: Counter[Action] = Counter()
        self.errors = 0
        self.done = 0
        self._path = path
        self._unmatched: Counter[str] = Counter()
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
        """The number of records of earlier runs that belong to none of the items."""
        return self._unmatched.total()

    def missing(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items without a record of an earlier run; each record accounts for one item only."""
        for item in items:
            key = _key(names_of(item)) if self.others else ""
            if self._unmatched[key]:
                self._unmatched[key] -= 1
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
        """Remove from the file the records that are screened again."""
        if not stat.S_ISREG(self._path.stat().st_mode):
            raise RequestError(f"{self._path} is not a regular file; give another --output.")
        keep_entries(self._path, partial(self._is_kept, policy), private=True)

    def _is_kept(self, policy: str, entry: Any) -> bool:
        record = _record(self._path, entry, policy)
        if "error" in record:
            return False
        self._unmatched[_key(record)] += 1
        self.actions[Action(record["action"])] += 1
        return True

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            sentence = f"{self._path} cannot be written: {error.strerror or error}; give another --output."
            raise RequestError(sentence) from error


def _key(names: Mapping[str, Any]) -> str:
    known = {name: names[name] for name in RECORD_NAMES if name in names}
    return json.dumps(known, sort_keys=True, default=str)


def _record(path: Path, record: Any, policy: str) -> dict[str, Any]:
    try:
        made_by = str(record["policy"])
        Action(record["action"])
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path} contains something other than records; give another file.") from error
    if made_by != policy:
        raise RequestError(f'{path} has records of the policy "{made_by}"; give another file for "{policy}".')
    return dict(record)
