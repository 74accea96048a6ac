"""Zero-shot classification: concepts described in words are compared with neutral descriptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safelight.clip.model import ClipModel
from safelight.clip.preprocessing import Floats
from safelight.errors import FilterError

# Descriptions that fit most images: the similarity to a concept must exceed the similarity to these.
NEUTRAL = (
    "a picture",
    "a photo of a person",
    "a photo of an animal",
    "a photo of a thing",
    "a photo of a landscape",
    "a photo of a room",
    "a drawing",
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The comparison of N embeddings with K labels; all arrays are (N, K).

    ``cosines`` and ``nearest`` are the cosine similarity and the index of each label's nearest description.
    """

    log_odds: Floats
    cosines: Floats
    nearest: NDArray[np.intp]


class Concepts:
    """A zero-shot classifier that compares each label's descriptions with neutral ones.

    Raises ``FilterError`` for a label without a description, or without neutral texts.
    """

    def __init__(
        self, model: ClipModel, concepts: Mapping[str, Sequence[str]], neutral: Sequence[str] = NEUTRAL
    ) -> None:
        groups = [*concepts.values(), neutral]
        if any(isinstance(each, str) or not len(each) or not all(each) for each in groups):
            raise FilterError("every concept, and neutral, needs a list with at least one description.")
        self.labels = tuple(concepts)
        self._descriptions = tuple(map(tuple, groups))
        self._scale = model.scale
        self._texts = model.embed_texts([text for each in groups for text in each])
        self._ends = np.cumsum([len(each) for each in groups])[:-1]

    def compare(self, embeddings: Floats) -> Comparison:
        """Compare unit-length embeddings (N, d) with every label.

        Labels are independent of each other, so that one image may have several. The log odds are
        log mean exp(scale · cos) over the label's descriptions, minus the same over the neutral ones: the
        softmax of zero-shot classification (Radford et al. 2021, section 3.1.2) in which both sides have the
        same weight, however many descriptions they have.
        """
        *labels, neutral = np.split(embeddings @ self._texts.T, self._ends, axis=1)
        nearest = np.stack([cosines.argmax(1) for cosines in labels], 1)
        close = np.stack([self._log_mean_exp(cosines) for cosines in (*labels, neutral)], 1)
        highest = np.stack([cosines.max(1) for cosines in labels], 1).clip(-1, 1)
        return Comparison(close[:, :-1] - close[:, -1:], highest, nearest)

    def description(self, label: int, number: int) -> str:
        """Return description ``number`` of the label with index ``label``."""
        return self._descriptions[label][number]

    def _log_mean_exp(self, cosines: Floats) -> Floats:
        logits = self._scale * cosines
        highest = logits.max(1, keepdims=True)
        close: Floats = highest[:, 0] + np.log(np.exp(logits - highest).mean(1))
        return close


def sigmoid(logits: Floats) -> Floats:
    """Return the logistic sigmoid, computed without overflow."""
    half: Floats = 0.5 * (1 + np.tanh(0.5 * logits))
    return half
