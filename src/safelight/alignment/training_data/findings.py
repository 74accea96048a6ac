"""What filters found in each sample, kept so that any policy can be applied without another look."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from safelight.alignment.training_data.captions import quotes
from safelight.types import Box, FilterFindings, FilterRun, Finding, Span, Stage, to_json_value

if TYPE_CHECKING:
    from pyarrow import Schema

# The problem of what stands for the rest of a shard that nobody could look at.
GIVEN_UP = "reading it crashes: it and the rest of its shard were given up."

_QUOTES = "a filter failed at it; what it said is not kept, since it may quote the caption."


@dataclass(frozen=True, slots=True)
class Screened:
    """One sample: its image's hashes, and what was found in its caption, in each frame and in both.

    ``pdq`` is in hex, of images in which there is enough to see, if it was asked for; ``problem`` is why it
    could not be read at all; ``groups`` are those of its caption, None without one.
    """

    id: str
    key: str
    sha256: str | None = None
    problem: str | None = None
    found: Mapping[Stage, tuple[FilterFindings, ...]] = field(default_factory=dict)
    pdq: str | None = None
    groups: tuple[str, ...] | None = None

    def to_row(self) -> dict[str, Any]:
        """JSON-ready; without the words of a caption, which are personal."""
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
    """Of a table of rows."""
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
    told = [(name, text) for name in ("id", "key", "sha256", "pdq", "problem")]
    return pa.schema([*told, ("groups", pa.list_(text)), ("found", pa.list_(found))])


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
    """Return whether ``entry`` is a list of rows that a table takes and a policy can judge."""
    try:
        for row in _ROWS.validate_python(entry, strict=True):
            json.dumps(row, ensure_ascii=False).encode()  # as a table has it
            Screened.of_row(row)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False
    return True


def without_quotes(found: FilterFindings, caption: str) -> FilterFindings:
    """Return the same without what a filter that failed said, where that may quote the caption."""

    def said(problem: str | None) -> str | None:
        return _QUOTES if problem and quotes(problem, caption) else problem

    runs = {name: replace(run, problem=said(run.problem)) for name, run in found.runs.items()}
    return replace(found, runs=runs, problem=said(found.problem))


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
    """The only evidence that a policy looks at."""
    said = json.loads(evidence) if evidence else {}
    if said.get("type") != "box":
        return None
    return Box(said["left"], said["top"], said["right"], said["bottom"])
