"""Rates with their intervals, and how well scores tell harmful from benign."""

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
    """``k`` of ``n``, with its 95 % interval by Wilson's score method. Raises ``ValueError`` for n = 0."""

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
    """The score interval for ``k`` of ``n`` (Wilson 1927); ``z`` = 1.96 covers 95 %."""
    rate, share = k / n, z * z / n
    middle = (rate + share / 2) / (1 + share)
    half = z / (1 + share) * math.sqrt(rate * (1 - rate) / n + share / (4 * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def upper_bound(k: int, n: int, confidence: float = 0.95) -> float:
    """The exact one-sided bound on a rate of which ``k`` of ``n`` were seen (Clopper and Pearson 1934).

    With at most ``1 - confidence`` of chance, the true rate is higher. Raises ``ValueError`` for n = 0.
    """
    if k == Rate(k, n).n:
        return 1.0
    low, high = k / n, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(k, n, middle) > 1 - confidence else (low, middle)
    return high


def _at_most(k: int, n: int, rate: float) -> float:
    """The binomial probability of at most ``k`` of ``n``."""
    logs = np.array([math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in range(k + 1)])
    successes = np.arange(k + 1)
    return float(np.exp(logs + successes * math.log(rate) + (n - successes) * math.log1p(-rate)).sum())


def fewest_for(bound: float, confidence: float = 0.95) -> int:
    """How many items must be seen, not one of them wrong, for ``upper_bound`` to be within ``bound``."""
    return math.ceil(math.log(1 - confidence) / math.log1p(-bound))


def auroc(harmful: Scores, benign: Scores) -> float:
    """P(harmful score > benign score) + P(they are equal) / 2. Raises ``ValueError`` if one is empty."""
    _check(harmful, benign)
    low = np.sort(np.asarray(benign, float))
    below, up_to = (np.searchsorted(low, np.asarray(harmful, float), side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(low)))


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold and what it does: an item whose score reaches ``threshold`` is called harmful."""

    threshold: float
    recall: Rate
    false_positives: Rate


def at_false_positives(harmful: Scores, benign: Scores, share: float) -> OperatingPoint:
    """The lowest observed score at which at most ``share`` of ``benign`` are called harmful.

    Infinity, and nothing is called harmful, where the highest score is a benign one too often. Raises
    ``ValueError`` if one of the two is empty.
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
