"""A file of records that a run which was stopped goes on with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from safelight.cli.items import Item
from safelight.cli.record import names_of
from safelight.errors import RequestError


class Ledger:
    """One record a line. What an earlier run left is kept, but for a last line that it did not finish and
    for what could not be read or screened: that is tried again.

    Raises ``RequestError`` for a file of something else, or of another policy's records.
    """

    def __init__(self, path: Path, policy: str) -> None:
        self.actions: Counter[str] = Counter()
        self._left: Counter[str] = Counter()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        kept = path.with_name(f"{path.name}.part")
        with path.open("rb") as old, kept.open("wb") as new:
            for line in old:
                if line.endswith(b"\n") and "error" not in (record := _record(path, line, policy)):
                    new.write(line)
                    self._left[_key(record)] += 1
                    self.actions[record["action"]] += 1
        kept.replace(path)
        self._file = path.open("ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self.actions.total()

    def missing(self, items: Iterable[Item]) -> Iterator[Item]:
        """Those of ``items`` that the earlier runs left no record of; of two that look the same, both."""
        for item in items:
            key = _key(names_of(item))
            if self._left[key]:
                self._left[key] -= 1
            else:
                yield item

    def add(self, record: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(record, default=str).encode() + b"\n")
        self._file.flush()
        self.actions[record["action"]] += 1


def _key(names: Mapping[str, Any]) -> str:
    known = {name: names[name] for name in ("id", "path", "prompt_sha256") if name in names}
    return json.dumps(known, sort_keys=True, default=str)


def _record(path: Path, line: bytes, policy: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
        made_by = str(record["policy"])
        record["action"]
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path} has something else than records in it; give another file.") from error
    if made_by != policy:
        raise RequestError(f'{path} has records of the policy "{made_by}"; give another file for "{policy}".')
    return dict(record)
