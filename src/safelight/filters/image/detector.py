"""Object detectors of the transformers library, in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from safelight.errors import FilterError, ModelError
from safelight.filters.image.transformers_model import (
    as_rgb,
    check_unit_interval,
    load_model,
    output_labels,
    prepare_inputs,
)
from safelight.models.source import TRANSFORMERS, find_source
from safelight.registry import register
from safelight.types import Box, Finding


@register("image_filter", "object-detector")
class ObjectDetector:
    """Reports the objects that a model for ``object-detection`` detects, each with its box.

    ``model`` is a folder, or a hub id with its commit as ``revision``, and runs in PyTorch on ``device``.
    ``labels`` maps the classes that are reported to labels; by default all classes are reported under their
    own names. Scores that do not exceed ``threshold`` are left out. Images are processed one by one: in a
    batch they would be padded to one size, which shifts the boxes of many models.

    Raises ``ModelError`` for a model that does not exist, is not pinned, is not safetensors, or is not an
    object detector, ``FilterError`` for invalid options, and ``MissingExtraError`` without PyTorch.
    """

    @staticmethod
    def requires(options: Mapping[str, Any]) -> Mapping[str, str]:
        return TRANSFORMERS

    def __init__(
        self,
        model: str | Path,
        revision: str | None = None,
        labels: Mapping[str, str] | None = None,
        threshold: float = 0.25,
        device: str | None = None,
        name: str = "object-detector",
    ) -> None:
        check_unit_interval("threshold", threshold)
        source = find_source(model, revision)
        self._processor, self._model = load_model("ObjectDetection", source, device)
        if not hasattr(self._processor, "post_process_object_detection"):
            raise ModelError(
                f"the image processor of {source.name} returns no boxes; use an object detector."
            )
        self.name = name
        self.version = source.version
        self._reported = output_labels(self._model.config.id2label, labels)
        self.labels = frozenset(label for label in self._reported if label)
        self._threshold = threshold

    def find(self, images: Sequence[Image.Image]) -> list[list[Finding] | FilterError]:
        return [rgb if isinstance(rgb, FilterError) else self._detect(rgb) for rgb in map(as_rgb, images)]

    def _detect(self, image: Image.Image) -> list[Finding] | FilterError:
        import torch

        try:
            inputs = prepare_inputs(self._processor, [image], self._model)
        except ValueError as error:  # for an image so long and thin that resizing leaves no pixels
            return FilterError(str(error))
        with torch.inference_mode():
            outputs = self._model(**inputs)
        # The post-processing below would silently drop NaN.
        if not (outputs.logits.isfinite().all() and outputs.pred_boxes.isfinite().all()):
            return FilterError("the model's output is not finite")
        (seen,) = self._processor.post_process_object_detection(outputs, self._threshold, [(1, 1)])
        rows = zip(*(seen[key].tolist() for key in ("labels", "scores", "boxes")), strict=True)
        return [self._finding(*row) for row in rows if self._reported[row[0]]]

    def _finding(self, number: int, score: float, sides: Sequence[float]) -> Finding:
        box = Box(*(min(max(side, 0.0), 1.0) for side in sides))
        return Finding(str(self._reported[number]), score, self.name, box)
