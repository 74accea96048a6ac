"""What a policy makes of one sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safelight.alignment.training_data.findings import Screened
from safelight.policy import Policy
from safelight.types import Action, FilterFindings, Stage, Verdict, severity_key

HARMFUL, UNREADABLE, UNSCREENED, DUPLICATE = "harmful", "unreadable", "unscreened", "duplicate"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a sample does not stay.

    ``reason`` is one of four words, ``detail`` a sentence. ``category``, ``score`` and ``filter`` are of
    what counted most; None where it was not harm.
    """

    reason: str
    detail: str
    category: str | None = None
    score: float | None = None
    filter: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """No ``rejection`` if it stays. ``scores`` are the highest of each category that was seen."""

    rejection: Rejection | None
    scores: Mapping[str, float]


def decide(screened: Screened, policy: Policy, least: Action = Action.REVIEW) -> Decision:
    """From the action ``least`` on a sample is rejected, and where nobody could look at it.

    A caption whose image was looked at says who is there, and the image how close they are.
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
    return Decision(_rejection(verdicts, least), scores)


def duplicate(decision: Decision, first: str) -> Decision:
    """Of a sample that would stay, were ``first`` not there."""
    return Decision(Rejection(DUPLICATE, f"its image is that of {first}."), decision.scores)


def _rejection(verdicts: Sequence[Verdict], least: Action) -> Rejection | None:
    worst = max(verdicts, key=severity_key, default=None)
    if worst is None:
        return Rejection(UNSCREENED, "no filter looked at it.")
    if worst.reasons:
        return Rejection(UNSCREENED, " ".join(worst.reasons))
    return _harm(worst) if worst.action >= least else None


def _judged(policy: Policy, stage: Stage, found: FilterFindings, beside: bool) -> Verdict:
    return policy.judge(stage, found.findings, filters=found.runs, problem=found.problem, beside=beside)


def _harm(verdict: Verdict) -> Rejection:
    worst = max(verdict.categories, key=lambda name: severity_key(verdict.categories[name]))
    seen = verdict.categories[worst]
    by = max((each for each in verdict.findings if each.label in seen.labels), key=lambda each: each.score)
    return Rejection(HARMFUL, f"{verdict.stage}: {verdict.explain()}", worst, seen.score, by.filter)
