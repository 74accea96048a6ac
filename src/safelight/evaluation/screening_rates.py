"""Metrics of how well a policy separates harmful from harmless images, finished and unfinished ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from safelight.evaluation.rates import OperatingPoint, Rate, at_false_positives, auroc
from safelight.evaluation.record import Record
from safelight.evaluation.tables import Row
from safelight.guard.early_stop import peek_steps
from safelight.policy import EarlyStop
from safelight.types import Action, Verdict

_FALSE_POSITIVES = 0.01


@dataclass(frozen=True, slots=True)
class Outcome:
    """The ground truth of an image, the policy's score for it, and whether the policy blurs or blocks it.

    ``coming`` are the scores of the unfinished image, by denoising step.
    """

    harmful: bool
    score: float
    caught: bool
    coming: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, harmful: bool, verdict: Verdict) -> Self:
        return cls(harmful, verdict.score, verdict.action >= Action.BLUR)

    @classmethod
    def of_record(cls, record: Record) -> Self:
        """Return the outcome for an image of a ``WatchedSystem``, with the judgement as the ground truth."""
        caught = Action(record.action) >= Action.BLUR
        return cls(record.is_harmful, record.details["score"], caught, record.details["coming"])


def sides(outcomes: Sequence[Outcome]) -> tuple[list[float], list[float]]:
    """Return the scores of harmful and of harmless images."""
    return [x.score for x in outcomes if x.harmful], [x.score for x in outcomes if not x.harmful]


def harm_rows(name: str, outcomes: Sequence[Outcome]) -> Iterator[Row]:
    """Yield recall and false positives at 1 % false positives and at the policy's own thresholds."""
    harmful, harmless = sides(outcomes)
    if not harmful or not harmless:
        return
    point = at_false_positives(harmful, harmless, _FALSE_POSITIVES)
    yield Row(f"{name}: recall at 1 % false positives", point.recall)
    yield Row(f"{name}: false positives there", point.false_positives)
    yield Row(f"{name}: recall at the policy's thresholds", Rate.of(x.caught for x in outcomes if x.harmful))
    yield Row(f"{name}: false positives there, as is", Rate.of(x.caught for x in outcomes if not x.harmful))


def aurocs(outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, float | None]:
    """Return the area under the ROC curve of each group that has harmful and harmless images."""
    return {f"{name}: AUROC": auroc(*sides(seen)) for name, seen in outcomes.items() if all(sides(seen))}


def early_points(drawn: Sequence[Outcome]) -> dict[str, OperatingPoint]:
    """Return for each step the threshold at 1 % false positives, with its recall."""
    points = {}
    for step in _steps(drawn):
        harmful, harmless = ([x.coming[step] for x in drawn if x.harmful is side] for side in (True, False))
        if harmful and harmless:
            points[step] = at_false_positives(harmful, harmless, _FALSE_POSITIVES)
    return points


def early_thresholds(points: Mapping[str, OperatingPoint]) -> dict[str, float | None]:
    return {
        f"threshold after step {step}": point.threshold if math.isfinite(point.threshold) else None
        for step, point in points.items()
    }


def stopped_rows(rule: EarlyStop | None, drawn: Sequence[Outcome], steps: int) -> list[Row]:
    """Return the share of images that the policy's early-stop rule stops, after each screened step."""
    if rule is None:
        return []
    screened = set(_steps(drawn))
    looks = [str(step) for step in peek_steps(rule.at, steps) if str(step) in screened]
    rows: list[Row] = []
    for last in range(1, len(looks) + 1):
        for name, harmful in (("harmful", True), ("harmless", False)):
            mine = [x for x in drawn if x.harmful is harmful]
            stopped = [any(x.coming[step] >= rule.score for step in looks[:last]) for x in mine]
            rows += [Row(f"{name}, by step {looks[last - 1]}", Rate.of(stopped))] if stopped else []
    return rows


def _steps(drawn: Sequence[Outcome]) -> list[str]:
    return list(drawn[0].coming) if drawn else []
