"""Deciding by a policy whether a sample is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safelight.policy import Policy
from safelight.safe_training.cleaning.findings import Screened
from safelight.types import Action, FilterFindings, Stage, Verdict, severity_key

HARMFUL, UNREADABLE, UNSCREENED, DUPLICATE = "harmful", "unreadable", "unscreened", "duplicate"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a sample is rejected.

    ``reason`` is one of the four constants, ``detail`` a sentence. ``category``, ``score`` and ``filter`` are
    those of the worst finding; None if the reason is not harm.
    """

    reason: str
    detail: str
    category: str | None = None
    score: float | None = None
    filter: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a sample is kept: ``rejection`` is None if so. ``scores`` has each category's highest score."""

    rejection: Rejection | None
    scores: Mapping[str, float]


def decide(screened: Screened, policy: Policy, reject_from: Action = Action.REVIEW) -> Decision:
    """Reject a sample whose action is ``reject_from`` or more severe, or that could not be screened.

    If the image was screened as well, its boxes decide how close objects are, and the caption only which
    objects there are.
    """
    if screened.problem:
        return Decision(Rejection(UNREADABLE, screened.problem), {})
    imaged = bool(policy.filters.image and screened.found.get("image"))
    verdicts = [
        _judged(policy, stage, each, stage == "prompt" and imaged)
        for stage, every in screened.found.items()
        for each in every
    ]
    scores: dict[str, float] = {}
    for verdict in verdicts:
        for name, seen in verdict.categories.items():
            scores[name] = max(seen.score, scores.get(name, 0.0))
    return Decision(_rejection(verdicts, reject_from), scores)


def duplicate(decision: Decision, first: str) -> Decision:
    """Return the decision on a sample that would be kept if it did not duplicate ``first``."""
    return Decision(Rejection(DUPLICATE, f"its image is that of {first}."), decision.scores)


def _rejection(verdicts: Sequence[Verdict], reject_from: Action) -> Rejection | None:
    worst = max(verdicts, key=severity_key, default=None)
    if worst is None:
        return Rejection(UNSCREENED, "no filter screened it.")
    if worst.reasons:
        return Rejection(UNSCREENED, " ".join(worst.reasons))
    return _harm(worst) if worst.action >= reject_from else None


def _judged(policy: Policy, stage: Stage, found: FilterFindings, beside: bool) -> Verdict:
    return policy.judge(stage, found.findings, filters=found.runs, problem=found.problem, beside=beside)


def _harm(verdict: Verdict) -> Rejection:
    worst = max(verdict.categories, key=lambda name: severity_key(verdict.categories[name]))
    seen = verdict.categories[worst]
    by = max((each for each in verdict.findings if each.label in seen.labels), key=lambda each: each.score)
    return Rejection(HARMFUL, f"{verdict.stage}: {verdict.explain()}", worst, seen.score, by.filter)
