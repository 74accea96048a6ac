"""A line of text in an image: its corners, and the text that was read there."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from safelight.types import Box

Corners = NDArray[np.float32]
"""Four points (x, y) in pixels, (4, 2), clockwise from the one at which the text begins at its top."""


@dataclass(frozen=True, slots=True, eq=False)
class TextLine:
    """A line of text, which may be rotated; ``text`` and ``confidence`` are empty until it is read."""

    corners: Corners
    text: str = ""
    confidence: float = 0.0

    @property
    def length(self) -> float:
        return float(np.linalg.norm(self.corners[1] - self.corners[0]))

    @property
    def height(self) -> float:
        return float(np.linalg.norm(self.corners[3] - self.corners[0]))

    @property
    def angle(self) -> float:
        """The direction in which the line is read, in radians: 0 from left to right, π/2 downwards."""
        x, y = self.corners[1] - self.corners[0]
        return math.atan2(y, x)

    def turned(self, quarters: int) -> TextLine:
        """Return the line as it is read after so many quarter turns of its begin, clockwise."""
        return replace(self, corners=np.roll(self.corners, -quarters, axis=0))

    def centre(self, angle: float) -> tuple[float, float]:
        """Return the centre in an image that is rotated so that text of this angle is horizontal."""
        x, y = self.corners.mean(0).tolist()
        return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)


def box_around(lines: Iterable[TextLine], size: tuple[int, int]) -> Box:
    """Return the box around all lines in an image of this size."""
    corners = np.concatenate([line.corners for line in lines]) / np.array(size, np.float32)
    (left, top), (right, bottom) = corners.min(0).clip(0, 1), corners.max(0).clip(0, 1)
    return Box(left, top, right, bottom)
