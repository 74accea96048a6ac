"""A file of records that a run which was stopped goes on with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from safelight.cli.items import Item
from safelight.errors import RequestError


class Ledger:
    """One record a line. What an earlier run left is kept, except a last line that it did not finish.

    Raises ``RequestError`` for a file of something else, or of another policy's records.
    """

    def __init__(self, path: Path, policy: str) -> None:
        self.actions: Counter[str] = Counter()
        self._done: set[str] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        end = 0
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    self._take(_record(path, line, policy))
                    end += len(line)
        self._file = path.open("r+b")
        self._file.truncate(end)
        self._file.seek(end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self.actions.total()

    def missing(self, items: Iterable[Item]) -> Iterator[Item]:
        """Those of ``items`` that it has no record of."""
        return (item for item in items if _key(item.key) not in self._done)

    def add(self, record: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(record, default=str).encode() + b"\n")
        self._file.flush()
        self._take(record)

    def _take(self, record: Mapping[str, Any]) -> None:
        self._done.add(_key({name: record[name] for name in ("id", "path") if name in record}))
        self.actions[record["action"]] += 1


def _key(names: Mapping[str, Any]) -> str:
    return json.dumps(dict(names), sort_keys=True, default=str)


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
