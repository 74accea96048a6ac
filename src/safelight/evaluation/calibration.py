"""Thresholds for a rate that an operator can live with, and how sure that rate is.

Benign items are divided: on one part each category's ``block`` threshold is set, on the other it is counted
how often any category blocks, and an exact bound says how often that may be in the long run.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.errors import RequestError
from safelight.evaluation.rates import Rate, fewest_for, upper_bound
from safelight.policy import Policy, Thresholds
from safelight.types import STAGES, Action, Stage, Verdict

# Thresholds are written with so many digits.
_DIGITS = 4
# Scores are probabilities: what is most likely harmless is not blocked, however rare it is among the benign.
_LOWEST = 0.2

Look = Callable[[Sequence[Any]], Sequence[Verdict]]


@dataclass(frozen=True, slots=True)
class CategoryCalibration:
    """One category: its threshold before and now, and how much of each file it blocks now."""

    category: str
    before: float
    threshold: float
    benign: Rate
    recall: Rate | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """``benign`` is the rate at which the part that set no threshold is blocked, by any category.

    ``bound`` is the exact upper 95 % bound on it, ``recall`` the share of unsafe items that are blocked.
    """

    policy: Policy
    categories: tuple[CategoryCalibration, ...]
    benign: Rate
    bound: float
    recall: Rate | None


def calibrate(
    policy: Policy,
    stage: Stage,
    look: Look,
    benign: Sequence[str],
    unsafe: Sequence[str] = (),
    max_block_rate: float = 0.01,
) -> Calibration:
    """Set the ``block`` thresholds that ``policy`` has at ``stage``, from what ``look`` finds.

    ``look`` screens with a policy that never blocks (``without_thresholds``), so that every filter speaks.
    Thresholds are as low as they can be while the exact bound on blocking, on the part they are set on, is
    within ``max_block_rate``. Raises ``RequestError`` for too few benign items, and where not even the
    highest thresholds reach that bound.
    """
    fitted, held_out = _halves(benign, max_block_rate)
    names = [name for name, rule in policy.categories.items() if getattr(rule, stage).block is not None]
    if not names:
        raise RequestError(f'the policy "{policy.name}" blocks nothing at the stage {stage}.')
    thresholds = _fit(names, look(fitted), max_block_rate)
    calibrated = with_thresholds(policy, stage, thresholds)
    seen = {"benign": look(held_out), "unsafe": look(unsafe) if unsafe else ()}
    judged = {part: [_judged(calibrated, stage, v) for v in verdicts] for part, verdicts in seen.items()}
    rows = [
        CategoryCalibration(
            name,
            getattr(policy.categories[name], stage).block,
            threshold,
            Rate.of(_blocks(verdict, name) for verdict in judged["benign"]),
            Rate.of(_blocks(verdict, name) for verdict in judged["unsafe"]) if unsafe else None,
        )
        for name, threshold in thresholds.items()
    ]
    benign_rate, recall = (
        Rate.of(v.action is Action.BLOCK for v in part) if part else None for part in judged.values()
    )
    assert benign_rate
    bound = upper_bound(benign_rate.k, benign_rate.n)
    return Calibration(calibrated, tuple(rows), benign_rate, bound, recall)


def without_thresholds(policy: Policy) -> Policy:
    """The policy, as it would be if it acted on nothing; child abuse is blocked all the same."""
    nothing: dict[str, Any] = {stage: Thresholds() for stage in STAGES}
    rules = {name: rule.model_copy(update=nothing) for name, rule in policy.categories.items()}
    return policy.model_copy(update={"categories": rules})


def with_thresholds(policy: Policy, stage: Stage, blocks: Mapping[str, float]) -> Policy:
    """The policy with other ``block`` thresholds at ``stage``; milder ones are lowered where they must be."""
    rules = dict(policy.categories)
    for name, block in blocks.items():
        milder = {a.value: min(t, block) for a, t in getattr(rules[name], stage).steps()}
        rules[name] = rules[name].model_copy(update={stage: Thresholds(**{**milder, "block": block})})
    return policy.model_copy(update={"categories": rules})


def _halves(items: Sequence[str], max_block_rate: float) -> tuple[list[str], list[str]]:
    """Two parts of the different items, always the same for the same ones."""
    if not 0 < max_block_rate < 1:
        raise RequestError(f"the block rate must lie between 0 and 1, not at {max_block_rate}.")
    parts: tuple[list[str], list[str]] = [], []
    for item in dict.fromkeys(items):  # the bound counts on independent ones
        parts[hashlib.sha256(item.encode("utf-8", "surrogatepass")).digest()[0] % 2].append(item)
    needed = fewest_for(max_block_rate)
    if min(map(len, parts)) < needed:
        different = sum(map(len, parts))
        raise RequestError(
            f"{different} different benign items are too few to bound a rate of {max_block_rate:g}; "
            f"give at least {math.ceil(2.2 * needed)}: each half needs {needed}."
        )
    return parts


def _fit(names: Sequence[str], verdicts: Sequence[Verdict], max_block_rate: float) -> dict[str, float]:
    """The thresholds that block most while the bound is kept, with one number of items for each category."""
    scores = np.array([[_score(verdict, name) for name in names] for verdict in verdicts])
    anyway = np.array([verdict.action is Action.BLOCK for verdict in verdicts])
    order = np.sort(scores, axis=0)[::-1]
    for allowed in range(int(max_block_rate * len(verdicts)), -1, -1):
        thresholds = _just_above(order[allowed])
        blocked = int(((scores >= thresholds).any(1) | anyway).sum())
        if upper_bound(blocked, len(verdicts)) <= max_block_rate:
            return dict(zip(names, thresholds.tolist(), strict=True))
    raise RequestError(
        f"{blocked} of {len(verdicts)} benign items are blocked at any threshold, so a rate of "
        f"{max_block_rate:g} is out of reach; allow more, or correct the filters that are so sure of them."
    )


def _just_above(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The next threshold that these scores do not reach, as far as thresholds go."""
    steps = np.floor(np.round(scores * 10**_DIGITS, 6)) + 1  # rounded, for 0.6 is a little less than 0.6
    thresholds: NDArray[np.float64] = np.round(steps / 10**_DIGITS, _DIGITS).clip(_LOWEST, 1.0)
    return thresholds


def _judged(policy: Policy, stage: Stage, verdict: Verdict) -> Verdict:
    problem = verdict.reasons[0] if verdict.reasons else None
    return policy.judge(stage, verdict.findings, problem=problem)


def _score(verdict: Verdict, category: str) -> float:
    return verdict.categories[category].score if category in verdict.categories else 0.0


def _blocks(verdict: Verdict, category: str) -> bool:
    return category in verdict.categories and verdict.categories[category].action is Action.BLOCK
