"""NudeNet: finds the parts of a body. Its code and weights are AGPL-3.0, so it is an extra."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from safelight.errors import MissingExtraError
from safelight.registry import register
from safelight.types import Box, Finding

if TYPE_CHECKING:
    from PIL.Image import Image


@register("image_filter", "nudenet")
class NudeNet:
    """Reports NudeNet's classes as they are called there (``FACE_FEMALE`` …), each with its box.

    Raises ``MissingExtraError`` where NudeNet is not installed. https://github.com/notAI-tech/NudeNet
    """

    def __init__(self, name: str = "nudenet") -> None:
        try:
            from nudenet import NudeDetector
        except ImportError as error:
            raise MissingExtraError('the image filter "nudenet"', "nudenet") from error
        self.name = name
        self.version = version("nudenet")
        self._detector = NudeDetector()

    def find(self, images: Sequence[Image]) -> list[list[Finding]]:
        return [self._findings(image) for image in images]

    def _findings(self, image: Image) -> list[Finding]:
        # An array, not a file: with files NudeNet hands the network the colours in the wrong order.
        seen = self._detector.detect(np.asarray(image.convert("RGB")))
        return [Finding(d["class"], d["score"], self.name, _box(d["box"], image)) for d in seen]


def _box(sides: Any, image: Image) -> Box:
    """NudeNet's (left, top, width, height) in pixels."""
    left, top, width, height = sides
    return Box(
        left / image.width,
        top / image.height,
        (left + width) / image.width,
        (top + height) / image.height,
    )
