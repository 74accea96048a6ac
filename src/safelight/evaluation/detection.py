"""Metrics of label detection in images whose labels are known.

The functions take two boolean matrices with a row for each image and a column for each label: ``there`` (the
label is present in the image) and ``seen`` (it was detected).
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
    """Return a boolean matrix, (N, labels), of which ``labels`` are in each set."""
    return np.array([[label in each for label in labels] for each in sets], bool).reshape(-1, len(labels))


def recall_rows(there: Flags, seen: Flags, labels: Sequence[str]) -> list[Row]:
    """Return the recall over all labels, and then of each label that is present in any image."""
    by_label = [row for i, label in enumerate(labels) for row in share(label, seen[there[:, i], i])]
    return [*share("all", seen[there]), *by_label]


def false_positive_rows(there: Flags, seen: Flags, labels: Sequence[str]) -> list[Row]:
    """Return the false positive rate over all labels, and then of each label that is absent in any image."""
    return recall_rows(~there, seen, labels)


def exact_rows(there: Flags, seen: Flags) -> list[Row]:
    """Return how often exactly the right labels were detected: in all images, and by the number of labels."""
    right, count = (there == seen).all(1), there.sum(1)
    by_count = [row for n in np.unique(count) for row in share(f"labels: {n}", right[count == n])]
    return [*share("all", right), *by_count]


def share(group: str, outcomes: Iterable[Any]) -> list[Row]:
    """Return a list with one row for the share of true ``outcomes``; it is empty if there are none."""
    listed = [bool(outcome) for outcome in outcomes]
    return [Row(group, Rate.of(listed))] if listed else []


def label_aurocs(scores: NDArray[Any], there: Flags, labels: Sequence[str]) -> dict[str, float]:
    """Return the AUROC of each label's ``scores``, (N, labels), for the presence of the label."""
    return {label: auroc(scores[there[:, i], i], scores[~there[:, i], i]) for i, label in enumerate(labels)}


def score_rows(scores: NDArray[Any], there: Flags, labels: Sequence[str], threshold: float) -> list[Row]:
    """Return recall and false positive rate of each label's ``scores``, (N, labels), at a threshold."""
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
