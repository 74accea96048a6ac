"""Text-image consistency: scores concepts in an image together with its prompt, by CLIP similarity."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from safelight.errors import FilterError
from safelight.models.source import TRANSFORMERS
from safelight.registry import register
from safelight.types import MIN_SCORE, Concept, Finding

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    Floats = NDArray[np.float32]

# Fitted by `safelight evaluate clip`.
_WEIGHTS = (0.68, 0.18, -1.83)


@register("pair_filter", "consistency")
class Consistency:
    """Reports concepts that an image shows, with a higher score the closer its prompt is to them.

    ``concepts`` maps each label to descriptions in words, which are compared with the ``neutral`` ones. With
    the log odds of a label in the image, a, and in the prompt, b (:class:`safelight.clip.Concepts`), the
    score is sigmoid(w₁ · a + w₂ · max(b, 0) + w₃): weak evidence in both adds up, and a harmless prompt does
    not lower the score. ``weights`` are w, by default fitted to storybook scenes; w₂ is not negative.
    ``model``, ``revision`` and ``device`` are those of :func:`safelight.clip.load_clip`.

    Raises ``FilterError`` for invalid options, ``ModelError`` or ``MissingExtraError`` if the model cannot be
    loaded.
    """

    packaged: ClassVar[frozenset[str]] = frozenset({"storybook"})

    @staticmethod
    def requires(options: Mapping[str, Any]) -> Mapping[str, str]:
        model = str(options.get("model", "storybook"))
        return {} if model == "storybook" or (Path(model) / "image.onnx").is_file() else TRANSFORMERS

    def __init__(
        self,
        concepts: Mapping[str, Sequence[str]],
        model: str | Path = "storybook",
        revision: str | None = None,
        device: str | None = None,
        neutral: Sequence[str] | None = None,
        weights: Sequence[float] = _WEIGHTS,
        name: str = "consistency",
    ) -> None:
        from safelight.clip import NEUTRAL, Concepts, load_clip

        if not concepts or len(weights) != 3 or weights[1] < 0:
            raise FilterError(
                "a consistency filter needs concepts, and three weights, the second not negative."
            )
        self.name = name
        self.labels = frozenset(concepts)
        self._model = load_clip(model, revision, device)
        self._concepts = Concepts(self._model, concepts, neutral or NEUTRAL)
        self._weights = tuple(map(float, weights))
        settings = [
            {label: list(texts) for label, texts in concepts.items()},
            list(neutral or NEUTRAL),
            list(weights),
        ]
        self.version = (
            f"{self._model.version} {hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]}"
        )

    def find(self, pairs: Sequence[tuple[str, Image]]) -> list[list[Finding] | FilterError]:
        in_images = self._concepts.compare(self._model.embed_images([image for _, image in pairs]))
        in_prompts = self._concepts.compare(self._model.embed_texts([prompt for prompt, _ in pairs]))
        scores = self._scores(in_images.log_odds, in_prompts.log_odds)
        return [
            self._findings(*row) for row in zip(scores, in_images.nearest, in_images.cosines, strict=True)
        ]

    def _scores(self, image_odds: Floats, prompt_odds: Floats) -> Floats:
        """Return the scores (N, labels) for the log odds (N, labels) in images and prompts."""
        import numpy as np

        from safelight.clip import sigmoid

        image, prompt, offset = self._weights
        logits = image * image_odds + prompt * np.maximum(prompt_odds, 0) + offset
        return sigmoid(logits.astype(np.float32))

    def _findings(
        self, scores: Floats, nearest: NDArray[np.intp], cosines: Floats
    ) -> list[Finding] | FilterError:
        if any(math.isnan(score) for score in scores):
            return FilterError("the embedding of the prompt or the image is not finite")
        return [
            Finding(
                label, score, self.name, Concept(self._concepts.description(i, nearest[i]), float(cosines[i]))
            )
            for i, (label, score) in enumerate(zip(self._concepts.labels, scores, strict=True))
            if not score < MIN_SCORE
        ]
