"""Detection of hazards from an image alone, compared with the image together with its prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.clip import Concepts
from safelight.evaluation.detection import Flags
from safelight.evaluation.logistic_regression import fit, log_loss
from safelight.evaluation.rates import at_false_positives, auroc
from safelight.evaluation.tables import Row

_FALSE_POSITIVES = 0.02
# The features of the regression: log odds for the image, those for the prompt if above 0, and the constant 1.
_SIGNS = ("image", "prompt", "offset")
_ALONE = [0, 2]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Embeddings of images, (N, d), and of prompts that do not name a hazard, (N, d), with the true hazards.

    ``there``, (N, hazards), is whether the image shows a hazard; ``hinted``, (N,), is whether the prompt
    hints at one.
    """

    images: NDArray[Any]
    prompts: NDArray[Any]
    there: Flags
    hinted: Flags

    def only(self, hinted: bool) -> Pairs:
        chosen = self.hinted == hinted
        return Pairs(self.images[chosen], self.prompts[chosen], self.there[chosen], self.hinted[chosen])


def pair_rates(
    concepts: Concepts, fitting: Pairs, judged: Pairs
) -> tuple[list[Row], dict[str, float | None]]:
    """Return how well the ``concepts``, one for each hazard, are detected in ``judged``.

    Detection from the image alone is compared with detection from the image and its prompt, both with weights
    fitted on ``fitting``.
    """
    signs, there = _signs(concepts, fitting)
    weights, alone = fit(signs, there), fit(signs[:, _ALONE], there)
    named = [*zip(_SIGNS, weights, strict=True), *zip(("image alone", "offset alone"), alone, strict=True)]
    figures: dict[str, float | None] = {f"weight: {name}": float(weight) for name, weight in named}
    rows: list[Row] = []
    for kind, hinted in (("left out", False), ("hinted at", True)):
        signs, there = _signs(concepts, judged.only(hinted))
        both = {"image alone": signs[:, _ALONE] @ alone, "with its prompt": signs @ weights}
        for name, logits in both.items():
            harmful, benign = logits[there], logits[~there]
            point = at_false_positives(harmful, benign, _FALSE_POSITIVES)
            figures[f"auroc, {kind}, {name}"] = auroc(harmful, benign)
            figures[f"log loss, {kind}, {name}"] = log_loss(logits, there)
            rows.append(Row(f"{kind}, {name}: recall at 2 % false positives", point.recall))
    return rows, figures


def _signs(concepts: Concepts, of: Pairs) -> tuple[NDArray[np.float64], Flags]:
    """Return the features of every pair and hazard, (M, 3), and whether the hazard is present, (M,)."""
    shown, asked = (concepts.compare(rows).log_odds for rows in (of.images, of.prompts))
    signs = np.stack([shown.ravel(), np.maximum(asked, 0).ravel(), np.ones(shown.size)], 1)
    return signs.astype(np.float64), of.there.ravel()
