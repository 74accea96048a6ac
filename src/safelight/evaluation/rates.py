"""Rates with confidence intervals, and metrics of scores that separate harmful from benign items."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Scores = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate of ``k`` of ``n``, with its 95 % Wilson score interval. Raises ``ValueError`` for n = 0."""

    k: int
    n: int

    def __post_init__(self) -> None:
        if not 0 <= self.k <= self.n or self.n == 0:
            raise ValueError(f"{self.k} of {self.n} is no rate")

    @classmethod
    def of(cls, outcomes: Iterable[bool]) -> Self:
        listed = [bool(outcome) for outcome in outcomes]
        return cls(sum(listed), len(listed))

    @property
    def rate(self) -> float:
        return self.k / self.n

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.k, self.n)

    def to_dict(self) -> dict[str, Any]:
        low, high = self.interval
        shares = {"rate": self.rate, "low": low, "high": high}
        return {"n": self.n, "k": self.k, **{name: round(share, 6) for name, share in shares.items()}}


def wilson(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson score interval for ``k`` of ``n`` (Wilson 1927); ``z`` = 1.96 is for 95 %."""
    rate, share = k / n, z * z / n
    middle = (rate + share / 2) / (1 + share)
    half = z / (1 + share) * math.sqrt(rate * (1 - rate) / n + share / (4 * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def upper_bound(k: int, n: int, confidence: float = 0.95) -> float:
    """Return the exact one-sided upper bound of a rate, of which ``k`` of ``n`` were observed.

    The true rate is above it with a probability of at most ``1 - confidence`` (Clopper and Pearson 1934).
    Raises ``ValueError`` for n = 0.
    """
    if k == Rate(k, n).n:
        return 1.0
    low, high = k / n, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(k, n, middle) > 1 - confidence else (low, middle)
    return high


def _at_most(k: int, n: int, rate: float) -> float:
    """Return the binomial probability of at most ``k`` of ``n``."""
    logs = np.array([math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in range(k + 1)])
    successes = np.arange(k + 1)
    return float(np.exp(logs + successes * math.log(rate) + (n - successes) * math.log1p(-rate)).sum())


def fewest_for(bound: float, confidence: float = 0.95) -> int:
    """Return the smallest ``n`` for which ``upper_bound(0, n)`` is at most ``bound``."""
    return math.ceil(math.log(1 - confidence) / math.log1p(-bound))


def auroc(harmful: Scores, benign: Scores) -> float:
    """Return the area under the ROC curve, P(harmful score > benign score) + P(equal scores) / 2.

    Raises ``ValueError`` if there are no harmful or no benign scores.
    """
    _check(harmful, benign)
    low = np.sort(np.asarray(benign, float))
    below, up_to = (np.searchsorted(low, np.asarray(harmful, float), side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(low)))


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold and its rates; an item is classified as harmful if its score is at least ``threshold``."""

    threshold: float
    recall: Rate
    false_positives: Rate


def at_false_positives(harmful: Scores, benign: Scores, share: float) -> OperatingPoint:
    """Return the lowest observed score with a false positive rate of at most ``share`` as the threshold.

    It is infinity, so that nothing is classified as harmful, if too many benign items have the highest score.
    Raises ``ValueError`` if there are no harmful or no benign scores.
    """
    _check(harmful, benign)
    sorted_benign = np.sort(np.asarray(benign, float))
    candidates = np.unique(np.concatenate([sorted_benign, np.asarray(harmful, float), [np.inf]]))
    called = len(benign) - np.searchsorted(sorted_benign, candidates)
    threshold = float(candidates[called <= share * len(benign)][0])
    return operating_point(harmful, benign, threshold)


def operating_point(harmful: Scores, benign: Scores, threshold: float) -> OperatingPoint:
    recall, false = (Rate.of(score >= threshold for score in scores) for scores in (harmful, benign))
    return OperatingPoint(threshold, recall, false)


def _check(harmful: Scores, benign: Scores) -> None:
    if not len(harmful) or not len(benign):
        raise ValueError("scores of both harmful and benign items are needed")
