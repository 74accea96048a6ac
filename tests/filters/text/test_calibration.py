from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.filters.text.calibration import Calibration, logit

shares = st.floats(0, 1)


def test_by_hand() -> None:
    """Odds of 3 to 1 squared, times e for a word of score one half, times a third: 3e to 1."""
    calibrated = Calibration(slope=2.0, words=2.0, shift=-math.log(3))
    scores = calibrated.calibrate(np.array([[0.75, 0.3], [0.15, 0.6]], np.float32), 0.5)
    p = 3 * math.e / (1 + 3 * math.e)
    assert scores == pytest.approx(np.array([[p, 0.4 * p], [0.2 * p, 0.8 * p]]), rel=1e-5)


@given(st.lists(shares, min_size=1, max_size=5), shares)
def test_without_evidence_nothing_changes(values: list[float], listed: float) -> None:
    scores = np.array(values, np.float32)
    assert Calibration().calibrate(scores, listed) == pytest.approx(scores, abs=1e-5)


@given(st.lists(shares, min_size=1, max_size=5), shares, shares)
def test_worse_words_make_harm_likelier(values: list[float], low: float, high: float) -> None:
    low, high = sorted((low, high))
    scores, calibrated = np.array(values, np.float32), Calibration(1.1, 4.0, -0.5)
    mild, bad = calibrated.calibrate(scores, low), calibrated.calibrate(scores, high)
    assert (mild <= bad + 1e-7).all()
    assert ((bad >= 0) & (bad <= 1)).all()


def test_no_number_stays_none() -> None:
    assert np.isnan(Calibration(1.0, 1.0, 0.0).calibrate(np.array([[math.nan, 0.5]], np.float32), 1.0)).any()


def test_certainty_has_finite_odds() -> None:
    assert logit(np.array([0.0, 0.5, 1.0])) == pytest.approx([-13.8155, 0, 13.8155], abs=1e-3)
