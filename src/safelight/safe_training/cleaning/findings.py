"""The findings of each sample, stored so that any policy can be applied without screening again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from safelight.safe_training.cleaning.captions import quotes
from safelight.types import Box, FilterFindings, FilterRun, Finding, Span, Stage, to_json_value

if TYPE_CHECKING:
    from pyarrow import Schema

# The problem of the sample that stands for the rest of a shard whose reading keeps crashing.
GIVEN_UP = "reading it crashes: it and the rest of its shard were given up."

_QUOTES = "a filter failed; its message is not kept, as it may quote the caption."


@dataclass(frozen=True, slots=True)
class Screened:
    """One screened sample: its image's hashes, and the findings in its caption, image frames and pair.

    ``pdq`` is in hex; None if it was not asked for or the image has too little detail. ``problem`` is why the
    sample could not be read. ``groups`` are the groups of its caption, None without a caption.
    """

    id: str
    key: str
    sha256: str | None = None
    problem: str | None = None
    found: Mapping[Stage, tuple[FilterFindings, ...]] = field(default_factory=dict)
    pdq: str | None = None
    groups: tuple[str, ...] | None = None

    def to_row(self) -> dict[str, Any]:
        """Return the sample as JSON-ready data, without words of its caption, which are personal data."""
        found = [_row(stage, each) for stage, every in self.found.items() for each in every]
        return {
            "id": self.id,
            "key": self.key,
            "sha256": self.sha256,
            "pdq": self.pdq,
            "problem": self.problem,
            "groups": None if self.groups is None else list(self.groups),
            "found": found,
        }

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Screened:
        found: dict[Stage, list[FilterFindings]] = {}
        for each in row["found"]:
            found.setdefault(each["stage"], []).append(_found(each))
        by_stage = {stage: tuple(every) for stage, every in found.items()}
        groups = None if row["groups"] is None else tuple(row["groups"])
        return cls(row["id"], row["key"], row["sha256"], row["problem"], by_stage, row["pdq"], groups)


def schema() -> Schema:
    """Return the schema of a table of rows."""
    import pyarrow as pa

    text = pa.string()
    finding = pa.struct([("label", text), ("score", pa.float64()), ("filter", text), ("evidence", text)])
    failed = pa.struct([("filter", text), ("problem", text)])
    found = pa.struct(
        [
            ("stage", text),
            ("frame", pa.int32()),
            ("problem", text),
            ("failed", pa.list_(failed)),
            ("findings", pa.list_(finding)),
        ]
    )
    texts = [(name, text) for name in ("id", "key", "sha256", "pdq", "problem")]
    return pa.schema([*texts, ("groups", pa.list_(text)), ("found", pa.list_(found))])


class _Failed(TypedDict):
    filter: str
    problem: str


class _Finding(TypedDict):
    label: str
    score: float
    filter: str
    evidence: str | None


class _Found(TypedDict):
    stage: Stage
    frame: Annotated[int, Field(ge=0, lt=1 << 31)] | None
    problem: str | None
    failed: list[_Failed]
    findings: list[_Finding]


class _Row(TypedDict):
    id: str
    key: str
    sha256: str | None
    pdq: str | None
    problem: str | None
    groups: list[str] | None
    found: list[_Found]


_ROWS: TypeAdapter[list[_Row]] = TypeAdapter(list[_Row])


def are_rows(entry: object) -> bool:
    """Return whether ``entry`` is a list of rows that fit the schema and that a policy can judge."""
    try:
        for row in _ROWS.validate_python(entry, strict=True):
            json.dumps(row, ensure_ascii=False).encode()  # tables store UTF-8
            Screened.of_row(row)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False
    return True


def without_quotes(found: FilterFindings, caption: str) -> FilterFindings:
    """Return the findings with messages of failed filters withheld where they may quote the caption."""

    def withheld(problem: str | None) -> str | None:
        return _QUOTES if problem and quotes(problem, caption) else problem

    runs = {name: replace(run, problem=withheld(run.problem)) for name, run in found.runs.items()}
    return replace(found, runs=runs, problem=withheld(found.problem))


def _row(stage: Stage, found: FilterFindings) -> dict[str, Any]:
    return {
        "stage": stage,
        "frame": found.frame,
        "problem": found.problem,
        "failed": [
            {"filter": name, "problem": run.problem} for name, run in found.runs.items() if run.problem
        ],
        "findings": [
            {
                "label": each.label,
                "score": each.score,
                "filter": each.filter,
                "evidence": _evidence(each),
            }
            for each in found.findings
        ],
    }


def _evidence(finding: Finding) -> str | None:
    if finding.evidence is None or isinstance(finding.evidence, Span):
        return None
    return json.dumps(to_json_value(finding.evidence))


def _found(row: Mapping[str, Any]) -> FilterFindings:
    findings = tuple(
        Finding(each["label"], each["score"], each["filter"], _box(each["evidence"]))
        for each in row["findings"]
    )
    runs = {each["filter"]: FilterRun("", 0.0, each["problem"]) for each in row["failed"]}
    return FilterFindings(findings, runs, row["problem"], row["frame"])


def _box(evidence: str | None) -> Box | None:
    """Return stored evidence as a box, the only kind that a policy uses; None if it is not a box."""
    stored = json.loads(evidence) if evidence else {}
    if stored.get("type") != "box":
        return None
    return Box(stored["left"], stored["top"], stored["right"], stored["bottom"])
