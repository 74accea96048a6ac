"""Classification of CLIP embeddings: any number of heads on one embedding per image."""

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

_MAX_SQUARES = 17


@register("image_filter", "clip")
class Clip:
    """Reports what its heads detect in the CLIP embedding of an image.

    ``model``, ``revision`` and ``device`` are those of :func:`safelight.clip.load_clip`. Heads:

    - ``concepts`` maps each label to descriptions in words, which are compared with the ``neutral`` ones;
      ``calibration`` is the slope and offset of the Platt scaling from log odds to probabilities.
    - ``safety_checker`` is the folder of a Stable Diffusion safety checker, whose concepts are reported as
      ``safety_checker_label``.
    - ``heads`` are safetensors files of trained layers, or tables of ``file`` and ``sha256``.

    The model sees the centre square of an image. With ``whole`` it sees as many squares as are needed to
    cover the image, and the score of a label is its highest score in any square; images that are too narrow
    for that are blocked.

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
        from safelight.filters.image.heads import ConceptHead, SafetyChecker, load_head

        if len(calibration) != 2:
            raise FilterError("calibration has two numbers, a slope and an offset.")
        if not (concepts or safety_checker or heads):
            raise FilterError("a clip filter needs at least one of concepts, heads and safety_checker.")
        self.name = name
        self._model = load_clip(model, revision, device)
        self._whole = whole
        self._heads: list[Head] = []
        if concepts:
            self._heads.append(ConceptHead(self._model, concepts, neutral or NEUTRAL, calibration))
        if safety_checker:
            self._heads.append(SafetyChecker(safety_checker, self._model.dimensions, safety_checker_label))
        self._heads += [load_head(self._model, entry) for entry in heads]
        self.labels = frozenset(label for head in self._heads for label in head.labels)
        pins = hashlib.sha256(" ".join(head.version for head in self._heads).encode())
        self.version = f"{self._model.version} {pins.hexdigest()[:12]}"

    def find(self, images: Sequence[Image]) -> list[list[Finding] | FilterError]:
        import numpy as np

        squares = [_cover_with_squares(image) if self._whole else [image] for image in images]
        embeddings = self._model.embed_images([square for each in squares for square in each])
        signals = self._signals(np.nan_to_num(embeddings))
        seen = iter(zip(np.all(np.isfinite(embeddings), axis=1).tolist(), signals, strict=True))
        return [self._findings([next(seen) for _ in each]) for each in squares]

    def _signals(self, embeddings: Any) -> list[list[Signal]]:
        """Return the signals of all heads for each embedding."""
        by_head = [head.signals(embeddings) for head in self._heads]
        return [[signal for head in row for signal in head] for row in zip(*by_head, strict=True)]

    def _findings(self, squares: Sequence[tuple[bool, list[Signal]]]) -> list[Finding] | FilterError:
        if not squares:
            return FilterError("it is too long and narrow to be covered with squares")
        if not all(finite for finite, _ in squares):
            return FilterError("its embedding is not finite")
        if len(squares) == 1:
            return [Finding(label, score, self.name, evidence) for label, score, evidence in squares[0][1]]
        likeliest: dict[tuple[str, str], Finding] = {}
        for label, score, evidence in (signal for _, signals in squares for signal in signals):
            finding = Finding(label, score, self.name, evidence)
            key = label, evidence.name if evidence else ""
            likeliest[key] = max(finding, likeliest.get(key, finding), key=lambda one: one.score)
        return list(likeliest.values())


def _cover_with_squares(image: Image) -> list[Image]:
    """Return evenly spaced squares that cover the image; none if too many would be needed.

    Their number is odd, so that the centre square is one of them.
    """
    width, height = image.size
    side = min(width, height)
    count = -(-max(width, height) // side) // 2 * 2 + 1 if width != height else 1
    if count > _MAX_SQUARES:
        return []
    shares = [i / max(1, count - 1) for i in range(count)]
    corners = [(round(share * (width - side)), round(share * (height - side))) for share in shares]
    return [image.crop((left, top, left + side, top + side)) for left, top in corners]
