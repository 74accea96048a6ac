"""Zero-shot concepts: what is described in words, against what most pictures show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from safelight.clip.model import ClipModel
from safelight.clip.preprocessing import Floats
from safelight.errors import FilterError

# What most pictures show in some way: a concept has to be nearer than these.
NEUTRAL = (
    "a picture",
    "a photo of a person",
    "a photo of an animal",
    "a photo of a thing",
    "a photo of a landscape",
    "a photo of a room",
    "a drawing",
)


class Concepts:
    """What is described in words: each label's descriptions against neutral ones.

    Raises ``FilterError`` for a label without a description, or without neutral texts.
    """

    def __init__(
        self, model: ClipModel, concepts: Mapping[str, Sequence[str]], neutral: Sequence[str] = NEUTRAL
    ) -> None:
        texts = [neutral, *concepts.values()]
        if any(isinstance(each, str) or not all(each) or not len(each) for each in texts):
            raise FilterError("every concept, and neutral, needs a list with at least one description.")
        self.labels = tuple(concepts)
        self._descriptions = tuple(map(tuple, concepts.values()))
        self._scale = model.scale
        self._texts = [model.embed_texts(list(each)) for each in texts]

    def log_odds(self, embeddings: Floats) -> Floats:
        """(N, labels): log odds of each label against the neutral descriptions, each label for itself.

        log mean exp(scale · cos) over the label's descriptions, less the same over the neutral ones: the
        softmax of zero-shot classification (Radford et al. 2021, section 3.1.2) in which both sides weigh
        the same, however many descriptions they have.
        """
        neutral, *labels = (self._closeness(embeddings, texts) for texts in self._texts)
        return np.stack([label - neutral for label in labels], 1) if labels else embeddings[:, :0]

    def nearest(self, embedding: Floats, label: int) -> tuple[str, float]:
        """Of the label numbered ``label`` the description that is nearest, and its cosine."""
        cosines = self._texts[1 + label] @ embedding
        best = int(cosines.argmax())
        return self._descriptions[label][best], float(np.clip(cosines[best], -1, 1))

    def _closeness(self, embeddings: Floats, texts: Floats) -> Floats:
        logits = self._scale * embeddings @ texts.T
        highest = logits.max(1, keepdims=True)
        close: Floats = highest[:, 0] + np.log(np.exp(logits - highest).mean(1))
        return close


def sigmoid(logits: Floats) -> Floats:
    """Without overflow."""
    half: Floats = 0.5 * (1 + np.tanh(0.5 * logits))
    return half
