"""How well labels are detected in images whose contents are known.

Tables take two matrices of booleans with a row for each image and a column for each label: ``there`` (the
image has it) and ``seen`` (it was detected).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.evaluation.rates import Rate, auroc
from safelight.evaluation.tables import Row

Flags = NDArray[np.bool_]
Box = tuple[float, float, float, float]


def flags(sets: Iterable[Collection[str]], labels: Sequence[str]) -> Flags:
    """Return which of ``labels`` are in each set: (N, labels)."""
    return np.array([[label in each for label in labels] for each in sets], bool).reshape(-1, len(labels))


def recall_rows(there: Flags, seen: Flags, labels: Sequence[str]) -> list[Row]:
    """Return how often what is there was seen: all labels together, then each label that is there at all."""
    by_label = [row for i, label in enumerate(labels) for row in share(label, seen[there[:, i], i])]
    return [*share("all", seen[there]), *by_label]


def false_positive_rows(there: Flags, seen: Flags, labels: Sequence[str]) -> list[Row]:
    """Return how often what is not there was seen, as ``recall_rows``."""
    return recall_rows(~there, seen, labels)


def exact_rows(there: Flags, seen: Flags) -> list[Row]:
    """Return how often nothing was missed or made up: in all images, then by the number of labels there."""
    right, count = (there == seen).all(1), there.sum(1)
    by_count = [row for n in np.unique(count) for row in share(f"labels: {n}", right[count == n])]
    return [*share("all", right), *by_count]


def share(group: str, outcomes: Iterable[Any]) -> list[Row]:
    """Return one row for the share of true ``outcomes``; none where there is nothing to count."""
    listed = [bool(outcome) for outcome in outcomes]
    return [Row(group, Rate.of(listed))] if listed else []


def label_aurocs(scores: NDArray[Any], there: Flags, labels: Sequence[str]) -> dict[str, float]:
    """Return for each label how well its ``scores`` (N, labels) tell where it is."""
    return {label: auroc(scores[there[:, i], i], scores[~there[:, i], i]) for i, label in enumerate(labels)}


def score_rows(scores: NDArray[Any], there: Flags, labels: Sequence[str], threshold: float) -> list[Row]:
    """Return recall and false positives of each label whose ``scores`` (N, labels) reach a threshold."""
    rows = []
    for i, label in enumerate(labels):
        rows += share(f"recall: {label}", scores[there[:, i], i] >= threshold)
        rows += share(f"false positives: {label}", scores[~there[:, i], i] >= threshold)
    return rows


def overlap(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes (left, top, right, bottom)."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, width) * max(0.0, height)
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (a, b)]
    return both / max(sum(areas) - both, 1e-9)
