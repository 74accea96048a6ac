"""An image filter: reports how much of an image is saturated red."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL.Image import Image

from safelight.types import Finding


class RedShare:
    """Reports the label "red" with the share of pixels whose red exceeds green and blue by ``margin``."""

    labels = ("red",)  # lets safelight check policies and judges that use the filter
    version = "1"

    def __init__(self, margin: int = 64, name: str = "red-share") -> None:
        self.name = name
        self._margin = margin

    def find(self, images: Sequence[Image]) -> list[list[Finding]]:
        return [[Finding("red", self._share(image), self.name)] for image in images]

    def _share(self, image: Image) -> float:
        red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), np.int16), -1, 0)
        return float((red - np.maximum(green, blue) > self._margin).mean())
