"""Two policies on the same findings: what changes for what was screened before, without running a filter."""

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

# What a record of `safelight screen` calls its item by: its place in what was screened, then its content.
RECORD_NAMES = ("id", "item", "file", "line", "row", "path", "prompt_sha256", "image_sha256")


@dataclass(frozen=True, slots=True)
class ScreenedItem:
    """An item as ``safelight screen`` recorded it; ``problem`` is why it could not be read or screened."""

    names: Mapping[str, Any]
    stage: Stage
    findings: tuple[Finding, ...]
    problem: str | None = None

    @property
    def name(self) -> str:
        """What people know it by: its place, or its content where that is not said."""
        place = [str(value) for name, value in self.names.items() if not name.endswith("_sha256")]
        return " ".join(place or map(str, self.names.values()))


@dataclass(frozen=True, slots=True)
class Change:
    """An item with another action under the second policy."""

    item: ScreenedItem
    before: Verdict
    after: Verdict

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
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
    """``judged`` items were, ``skipped`` could not be; ``counts`` is by action before and after."""

    judged: int
    skipped: int
    changes: tuple[Change, ...]

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        pairs = ((change.before.action.value, change.after.action.value) for change in self.changes)
        return dict(Counter(pairs).most_common())


def compare_policies(one: Policy, other: Policy, path: Path) -> PolicyDiff:
    """What both say of the records in a file that ``safelight screen`` wrote. Errors as ``read_screened``."""
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
    """The records in a JSONL file. Raises ``RequestError``, naming the line, for anything else."""
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
            f"{path}, line {number} is no record of `safelight screen`; give a file that it wrote."
        ) from error
    return ScreenedItem(names, _stage(names), findings, str(problem) if problem else None)


def _finding(row: Mapping[str, Any]) -> Finding:
    """Of the evidence only boxes decide anything."""
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
    """Records of pairs name both, the image and its prompt."""
    if "path" not in names:
        return "prompt"
    return "pair" if "prompt_sha256" in names else "image"
