"""The teacher of the prompt classifier: linear heads on the embeddings of a larger, frozen encoder.

Its probabilities are mixed into the labels (Hinton et al. 2015, "Distilling the knowledge in a neural
network"), name the categories of texts whose source names them otherwise, and find wrong labels (Northcutt et
al. 2021, "Confident learning"). Every text is judged by a head that was not fitted to it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safelight.filters.text.training.embeddings import embeddings
from safelight.filters.text.training.examples import Examples
from safelight.filters.text.training.head import fit_head
from safelight.filters.text.training.targets import Targets, is_precise

_PARTS = 4
_SEED = 2
# The share of the teacher's probability in a target, and its share in the categories of texts whose source
# has other categories.
_SHARE, _CATEGORY_SHARE = 0.4, 0.7
_CATEGORY_WEIGHT = 0.5
# Embeddings are kept in files of this many texts, so that an interrupted training resumes.
_KEPT_TOGETHER = 4096


def taught_targets(examples: Examples, embedded: NDArray[np.float32]) -> Targets:
    """Return targets for the texts of ``examples``, from their labels and embeddings (N, width)."""
    labels = examples.targets
    taught = _cross_predicted(examples, embedded)
    precise = is_precise(examples.texts)
    harmful = labels.harm > 0
    share = np.where(labels.weights[:, None] > 0, np.where(precise, _SHARE, _CATEGORY_SHARE)[:, None], 1.0)
    return Targets(
        harm=_mixed(labels.harm, taught[:, 0], _SHARE),
        categories=_mixed(labels.categories, taught[:, 1:], share),
        weights=np.where(precise, labels.weights, _CATEGORY_WEIGHT * harmful).astype(np.float32),
        kept=precise | ~_is_mislabelled(harmful, taught[:, 0], examples.weights(np.arange(len(harmful)))),
    )


def teacher_embeddings(teacher: Path, prompts: list[str], work: Path) -> NDArray[np.float32]:
    """Return the embeddings (N, width) of the prompts, of length 1; they are kept in ``work``."""
    work.mkdir(parents=True, exist_ok=True)
    parts = []
    for start in range(0, len(prompts), _KEPT_TOGETHER):
        path = work / f"teacher-{start}.npy"
        if not path.exists():
            np.save(path, embeddings(teacher, prompts[start : start + _KEPT_TOGETHER]))
        parts.append(np.load(path))
    embedded = np.concatenate(parts)
    unit: NDArray[np.float32] = embedded / np.linalg.norm(embedded, axis=1, keepdims=True)
    return unit


def _cross_predicted(examples: Examples, embedded: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities of harm and of each category (N, 1 + C), each by a head fitted to others."""
    parts = np.random.default_rng(_SEED).integers(_PARTS, size=len(embedded))
    taught = np.empty((len(embedded), 1 + examples.targets.categories.shape[1]), np.float32)
    rows: Tensor = torch.from_numpy(embedded)
    for part in range(_PARTS):
        known = np.flatnonzero(parts != part)
        weights = torch.from_numpy(examples.weights(known).astype(np.float32))
        # Categories are learnt from texts that were labelled with them, not from translated names.
        targets = examples.targets.of(known)
        targets.weights[~is_precise([examples.texts[row] for row in known.tolist()])] = 0
        head = fit_head(rows[known], targets, weights)
        with torch.inference_mode():
            taught[parts == part] = torch.sigmoid(head(rows[parts == part])).numpy()
    return taught


def _is_mislabelled(
    harmful: NDArray[np.bool_], taught: NDArray[np.float32], weights: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return whether each label is wrong by confident learning (N,).

    It is if the probability of the other label is at least the mean that this probability has among the texts
    with that label (Northcutt et al. 2021, eq. 2).
    """
    own = np.average(taught[harmful], weights=weights[harmful])
    other = np.average(1 - taught[~harmful], weights=weights[~harmful])
    wrong: NDArray[np.bool_] = np.where(harmful, 1 - taught >= other, taught >= own)
    return wrong


def _mixed(
    labels: NDArray[np.float32], taught: NDArray[np.float32], share: float | NDArray[np.float64]
) -> NDArray[np.float32]:
    mixed: NDArray[np.float32] = ((1 - share) * labels + share * taught).astype(np.float32)
    return mixed
