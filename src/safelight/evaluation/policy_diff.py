"""Comparison of two policies on recorded findings, without running a filter."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.errors import RequestError
from safelight.policy import Policy
from safelight.types import Box, Finding, Stage, Verdict

# The keys that identify the item of a record of `safelight screen`: its position in the input, then its hash.
RECORD_NAMES = ("id", "item", "file", "line", "row", "path", "prompt_sha256", "image_sha256")


@dataclass(frozen=True, slots=True)
class ScreenedItem:
    """An item that ``safelight screen`` recorded; ``problem`` is why it could not be read or screened."""

    names: Mapping[str, Any]
    stage: Stage
    findings: tuple[Finding, ...]
    problem: str | None = None

    @property
    def name(self) -> str:
        """The item's name for people: its position in the input, or its hash if the position is unknown."""
        place = [str(value) for name, value in self.names.items() if not name.endswith("_sha256")]
        return " ".join(place or map(str, self.names.values()))


@dataclass(frozen=True, slots=True)
class Change:
    """An item whose action differs between the two policies."""

    item: ScreenedItem
    before: Verdict
    after: Verdict

    def to_dict(self) -> dict[str, Any]:
        """Return the change as JSON-ready data."""
        return {
            **self.item.names,
            "stage": self.item.stage,
            "from": self.before.action.value,
            "to": self.after.action.value,
            "why_before": self.before.explain(),
            "why": self.after.explain(),
        }


@dataclass(frozen=True, slots=True)
class PolicyDiff:
    """The result of a comparison.

    ``judged`` items were judged under both policies, ``skipped`` items had not been screened. ``counts`` is
    the number of changes by the actions before and after.
    """

    judged: int
    skipped: int
    changes: tuple[Change, ...]

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        pairs = ((change.before.action.value, change.after.action.value) for change in self.changes)
        return dict(Counter(pairs).most_common())


def compare_policies(one: Policy, other: Policy, path: Path) -> PolicyDiff:
    """Judge the records in a file of ``safelight screen`` under both policies, and return the changes.

    Raises the errors of ``read_screened``.
    """
    judged, skipped, changes = 0, 0, []
    for item in read_screened(path):
        if item.problem:  # blocked under any policy
            skipped += 1
            continue
        judged += 1
        before, after = (policy.judge(item.stage, item.findings) for policy in (one, other))
        if before.action != after.action:
            changes.append(Change(item, before, after))
    return PolicyDiff(judged, skipped, tuple(changes))


def read_screened(path: Path) -> Iterator[ScreenedItem]:
    """Yield the items of a JSONL file. Raises ``RequestError``, naming the line, if one is invalid."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _item(path, number, line)
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}; give records.") from error


def _item(path: Path, number: int, line: bytes) -> ScreenedItem:
    try:
        record = json.loads(line)
        names = {name: record[name] for name in RECORD_NAMES if name in record}
        findings = tuple(map(_finding, record["findings"]))
        problem = record.get("error")
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise RequestError(
            f"{path}, line {number} is not a record of `safelight screen`; give a file that it wrote."
        ) from error
    return ScreenedItem(names, _stage(names), findings, str(problem) if problem else None)


def _finding(row: Mapping[str, Any]) -> Finding:
    """Return a recorded finding; evidence other than boxes is dropped, as policies do not use it."""
    evidence = row["evidence"] or {}
    box = (
        Box(*(float(evidence[side]) for side in ("left", "top", "right", "bottom")))
        if evidence.get("type") == "box"
        else None
    )
    if not isinstance(row["label"], str) or isinstance(row["score"], bool):
        raise TypeError
    return Finding(row["label"], row["score"], str(row["filter"]), box)


def _stage(names: Mapping[str, Any]) -> Stage:
    """Return the stage of a record; records of pairs have both an image and a prompt."""
    if "path" not in names:
        return "prompt"
    return "pair" if "prompt_sha256" in names else "image"
