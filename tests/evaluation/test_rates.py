from __future__ import annotations

import math

import pytest

from safelight.evaluation.rates import Rate, at_false_positives, auroc, fewest_for, upper_bound, wilson


def test_wilson_by_hand() -> None:
    # With nothing seen in ten, the upper end is (z²/n) / (1 + z²/n), z²/n = 0.38416.
    assert wilson(0, 10) == pytest.approx((0, 0.38416 / 1.38416))
    assert wilson(10, 10) == pytest.approx((1 / 1.38416, 1))
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    low, high = wilson(374, 748)
    assert (high - low) / 2 == pytest.approx(0.036, abs=5e-4)


def test_a_rate_carries_its_interval() -> None:
    assert Rate.of([True, False, True, True]) == Rate(3, 4)
    assert Rate(0, 10).to_dict() == {"n": 10, "k": 0, "rate": 0.0, "low": 0.0, "high": 0.27754}


@pytest.mark.parametrize(("k", "n"), [(0, 0), (2, 1), (-1, 4)])
def test_no_rate_of_nothing(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="is no rate"):
        Rate(k, n)


def test_auroc_counts_pairs_and_halves_ties() -> None:
    # 0.9 beats both, 0.5 beats one and ties with the other: 3.5 of 4 pairs.
    assert auroc([0.9, 0.5], [0.5, 0.1]) == 0.875
    assert auroc([1.0], [0.0]) == 1.0
    assert auroc([0.3, 0.3], [0.3]) == 0.5


def test_threshold_at_a_share_of_false_positives() -> None:
    benign = [i / 100 for i in range(100)]
    point = at_false_positives([0.97, 0.98, 0.99, 0.995], benign, 0.02)
    # Two of a hundred benign scores may be called harmful: 0.98 and 0.99.
    assert point.threshold == 0.98
    assert (point.recall, point.false_positives) == (Rate(3, 4), Rate(2, 100))


def test_nothing_is_called_harmful_where_benign_scores_are_the_highest() -> None:
    point = at_false_positives([0.5], [0.9, 0.9], 0.1)
    assert math.isinf(point.threshold)
    assert (point.recall.k, point.false_positives.k) == (0, 0)


def test_scores_of_both_kinds_are_needed() -> None:
    with pytest.raises(ValueError, match="both"):
        auroc([], [0.1])
    with pytest.raises(ValueError, match="both"):
        at_false_positives([0.1], [], 0.02)


@pytest.mark.parametrize(
    ("k", "n", "expected"),
    [
        (0, 299, 1 - 0.05 ** (1 / 299)),  # from the definition
        (1, 10, 0.39416),  # tables of Clopper and Pearson, 90 % two-sided
        (2, 20, 0.28262),
        (10, 10, 1.0),
    ],
)
def test_the_exact_bound(k: int, n: int, expected: float) -> None:
    assert upper_bound(k, n) == pytest.approx(expected, abs=1e-5)


def test_the_fewest_items_are_just_enough() -> None:
    assert fewest_for(0.01) == 299
    assert upper_bound(0, 299) <= 0.01 < upper_bound(0, 298)
