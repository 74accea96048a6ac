"""Calibration of thresholds for a given rate of blocked benign items, with a confidence bound on that rate.

Benign items are split into two halves. One half sets the ``block`` threshold of each category; on the other
half the rate of blocked items is measured, and an exact upper confidence bound is computed.
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

# The number of decimal places of calibrated thresholds.
_DIGITS = 4
# The lowest threshold: items that are most likely harmless are not blocked, however rare their scores are.
_LOWEST = 0.2

Look = Callable[[Sequence[Any]], Sequence[Verdict]]


@dataclass(frozen=True, slots=True)
class CategoryCalibration:
    """The result for one category.

    ``before`` and ``threshold`` are the old and the new threshold; ``benign`` and ``recall`` are the rates of
    benign and of unsafe items that the category blocks at the new one.
    """

    category: str
    before: float
    threshold: float
    benign: Rate
    recall: Rate | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """A calibrated policy and its measured rates.

    ``benign`` is the rate of held-out benign items that any category blocks, ``bound`` the exact one-sided
    95 % upper bound of this rate, and ``recall`` the rate of unsafe items that are blocked.
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
    """Calibrate the ``block`` thresholds that ``policy`` has at ``stage``.

    ``look`` screens items with a policy that never blocks (``without_thresholds``), so that every filter
    runs. The thresholds are the lowest for which the upper confidence bound of the block rate, on the half of
    the benign items that sets them, is at most ``max_block_rate``. Raises ``RequestError`` for too few benign
    items, and if even the highest thresholds exceed that rate.
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
    """Return the policy without thresholds, so that it takes no action; csae is still blocked."""
    nothing: dict[str, Any] = {stage: Thresholds() for stage in STAGES}
    rules = {name: rule.model_copy(update=nothing) for name, rule in policy.categories.items()}
    return policy.model_copy(update={"categories": rules})


def with_thresholds(policy: Policy, stage: Stage, blocks: Mapping[str, float]) -> Policy:
    """Return the policy with these ``block`` thresholds at ``stage``.

    Thresholds of milder actions that would be higher are lowered to the new ``block`` threshold.
    """
    rules = dict(policy.categories)
    for name, block in blocks.items():
        milder = {a.value: min(t, block) for a, t in getattr(rules[name], stage).steps()}
        rules[name] = rules[name].model_copy(update={stage: Thresholds(**{**milder, "block": block})})
    return policy.model_copy(update={"categories": rules})


def _halves(items: Sequence[str], max_block_rate: float) -> tuple[list[str], list[str]]:
    """Split the distinct items into two parts by their hash; the same items always get the same parts."""
    if not 0 < max_block_rate < 1:
        raise RequestError(f"the block rate must lie between 0 and 1, not at {max_block_rate}.")
    parts: tuple[list[str], list[str]] = [], []
    for item in dict.fromkeys(items):  # the bound assumes independent items
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
    """Return the lowest thresholds within the bound; each category blocks the same number of items."""
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
        f"{max_block_rate:g} is out of reach; allow a higher rate, or correct the filters that flag them."
    )


def _just_above(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lowest thresholds, to four decimals, that are above these scores."""
    steps = np.floor(np.round(scores * 10**_DIGITS, 6)) + 1  # rounded, as 0.6 is stored as a little less
    thresholds: NDArray[np.float64] = np.round(steps / 10**_DIGITS, _DIGITS).clip(_LOWEST, 1.0)
    return thresholds


def _judged(policy: Policy, stage: Stage, verdict: Verdict) -> Verdict:
    problem = verdict.reasons[0] if verdict.reasons else None
    return policy.judge(stage, verdict.findings, problem=problem)


def _score(verdict: Verdict, category: str) -> float:
    return verdict.categories[category].score if category in verdict.categories else 0.0


def _blocks(verdict: Verdict, category: str) -> bool:
    return category in verdict.categories and verdict.categories[category].action is Action.BLOCK
