"""The moving average of weights, which is what trainings give."""

from __future__ import annotations


def decay_at(step: int, decay: float) -> float:
    """Of the average in this step: less than ``decay`` at first, so that early weights soon count for
    nothing, however short the training is."""
    return min(decay, (1 + step) / (10 + step))
