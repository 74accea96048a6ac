"""Concepts in CLIP space: any number of heads on one embedding of each image."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from safelight.errors import FilterError
from safelight.models.source import TRANSFORMERS
from safelight.registry import register
from safelight.types import Finding

if TYPE_CHECKING:
    from PIL.Image import Image

    from safelight.filters.image.heads import Head, Signal

_MOST_SQUARES = 17


@register("image_filter", "clip")
class Clip:
    """Reports what its heads see in an image's embedding.

    ``model``, ``revision`` and ``device`` are those of :func:`safelight.clip.load_clip`. Heads:

    - ``concepts`` has for each label descriptions in words, weighed against ``neutral`` ones; ``calibration``
      has the slope and the offset that make probabilities of log odds.
    - ``safety_checker`` is the folder of a Stable Diffusion safety checker, whose concepts are reported as
      ``safety_checker_label``.
    - ``heads`` are safetensors files of trained layers, or tables of ``file`` and ``sha256``.

    The model sees the middle square of an image; with ``whole`` it sees as many squares as it takes to cover
    it, and the one in which a label is likeliest counts (what is too narrow to be covered is blocked).

    Raises ``FilterError`` without any head, ``ModelError`` or ``MissingExtraError`` if a model or a head
    cannot be loaded.
    """

    packaged: ClassVar[frozenset[str]] = frozenset({"storybook"})

    @staticmethod
    def requires(options: Mapping[str, Any]) -> Mapping[str, str]:
        model = str(options.get("model", "storybook"))
        return {} if model == "storybook" or (Path(model) / "image.onnx").is_file() else TRANSFORMERS

    def __init__(
        self,
        model: str | Path = "storybook",
        revision: str | None = None,
        device: str | None = None,
        concepts: Mapping[str, Sequence[str]] | None = None,
        neutral: Sequence[str] | None = None,
        calibration: Sequence[float] = (1.0, 0.0),
        safety_checker: str | Path | None = None,
        safety_checker_label: str = "sexual.explicit",
        heads: Sequence[str | Path | Mapping[str, Any]] = (),
        whole: bool = False,
        name: str = "clip",
    ) -> None:
        from safelight.clip import NEUTRAL, load_clip
        from safelight.filters.image.heads import ConceptHead, SafetyChecker, head_of

        if len(calibration) != 2:
            raise FilterError("calibration has two numbers, a slope and an offset.")
        if not (concepts or safety_checker or heads):
            raise FilterError("a clip filter needs concepts, heads or a safety_checker to look for anything.")
        self.name = name
        self._model = load_clip(model, revision, device)
        self._whole = whole
        self._heads: list[Head] = []
        if concepts:
            self._heads.append(ConceptHead(self._model, concepts, neutral or NEUTRAL, calibration))
        if safety_checker:
            self._heads.append(SafetyChecker(safety_checker, self._model.dimensions, safety_checker_label))
        self._heads += [head_of(self._model, entry) for entry in heads]
        self.labels = frozenset(label for head in self._heads for label in head.labels)
        pins = hashlib.sha256(" ".join(head.version for head in self._heads).encode())
        self.version = f"{self._model.version} {pins.hexdigest()[:12]}"

    def find(self, images: Sequence[Image]) -> list[list[Finding] | FilterError]:
        import numpy as np

        squares = [_squares(image) if self._whole else [image] for image in images]
        embeddings = self._model.embed_images([square for each in squares for square in each])
        signals = self._signals(np.nan_to_num(embeddings))
        seen = iter(zip(np.all(np.isfinite(embeddings), axis=1).tolist(), signals, strict=True))
        return [self._findings([next(seen) for _ in each]) for each in squares]

    def _signals(self, embeddings: Any) -> list[list[Signal]]:
        """Of each embedding what all heads say."""
        by_head = [head.signals(embeddings) for head in self._heads]
        return [[signal for said in of for signal in said] for of in zip(*by_head, strict=True)]

    def _findings(self, squares: Sequence[tuple[bool, list[Signal]]]) -> list[Finding] | FilterError:
        if not squares:
            return FilterError("it is too long and narrow to be looked at as a whole")
        if not all(finite for finite, _ in squares):
            return FilterError("the model gave no embedding of it")
        if len(squares) == 1:
            return [Finding(label, score, self.name, evidence) for label, score, evidence in squares[0][1]]
        likeliest: dict[tuple[str, str], Finding] = {}
        for label, score, evidence in (signal for _, signals in squares for signal in signals):
            finding = Finding(label, score, self.name, evidence)
            key = label, evidence.name if evidence else ""
            likeliest[key] = max(finding, likeliest.get(key, finding), key=lambda one: one.score)
        return list(likeliest.values())


def _squares(image: Image) -> list[Image]:
    """Evenly along the longer side, as many as it takes to cover the image; none if it takes too many.

    An odd number, so that the middle is one of them.
    """
    width, height = image.size
    side = min(width, height)
    count = -(-max(width, height) // side) // 2 * 2 + 1 if width != height else 1
    if count > _MOST_SQUARES:
        return []
    shares = [i / max(1, count - 1) for i in range(count)]
    corners = [(round(share * (width - side)), round(share * (height - side))) for share in shares]
    return [image.crop((left, top, left + side, top + side)) for left, top in corners]
