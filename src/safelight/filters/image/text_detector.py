"""Detection of lines of text by PP-OCRv6: the network's map of probabilities, and the rotated boxes in it.

The network predicts for every pixel whether it lies in the shrunk area of a line; each connected area is then
expanded again (Liao et al. 2019, arXiv:1911.08947, section 3.5).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from safelight.filters.image.text_line import Corners, TextLine
from safelight.models.onnx import open_session

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]

# Larger images are scaled down to this number of pixels. The time is in proportion to it.
_PIXELS = 736 * 736
_STRIDE = 32
# The settings of PP-OCRv6: a pixel's and a line's lowest probability, and how far a line is expanded.
_PIXEL_THRESHOLD, _LINE_THRESHOLD, _EXPANSION = 0.3, 0.5, 1.6
# The least height of a line in pixels of the map, before and after it is expanded.
_SHRUNK_HEIGHT, _HEIGHT = 3, 5


class TextDetector:
    """Finds lines of text in images. Raises ``ModelError`` for a file that cannot be loaded."""

    def __init__(self, path: Path) -> None:
        self._session = open_session(path)
        self._input = self._session.get_inputs()[0].name

    def find(self, pixels: Pixels) -> list[TextLine]:
        """Return the lines in RGB pixels (H, W, 3), unread, the largest first."""
        height, width = pixels.shape[:2]
        scale = min(1.0, math.sqrt(_PIXELS / (width * height)))
        likely = self._map(pixels, scale)
        sides = np.array([likely.shape[1] / width, likely.shape[0] / height], np.float32)
        limits = np.array([width, height], np.float32)
        lines = [TextLine((corners / sides).clip(0, limits)) for corners in _areas(likely)]
        return sorted(lines, key=lambda line: -line.height)

    def _map(self, pixels: Pixels, scale: float) -> Map:
        """Return the probability that a pixel of the scaled image belongs to a line."""
        import cv2

        height, width = (max(1, round(length * scale)) for length in pixels.shape[:2])
        if scale < 1:
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        below, beside = -height % _STRIDE, -width % _STRIDE
        pixels = cv2.copyMakeBorder(pixels, 0, below, 0, beside, cv2.BORDER_REPLICATE)
        likely: Map = self._session.run(None, {self._input: bgr_input(pixels)})[0][0, 0]
        return likely[:height, :width]


def bgr_input(pixels: Pixels) -> NDArray[np.float32]:
    """Return RGB pixels (H, W, 3) as the networks of PP-OCR take them: BGR, (1, 3, H, W), in [-1, 1]."""
    planes = pixels[:, :, ::-1].transpose(2, 0, 1)[None]
    return np.ascontiguousarray(planes, np.float32) / np.float32(127.5) - np.float32(1)


def _areas(likely: Map) -> Iterator[Corners]:
    """Yield the corners of every line in a map of probabilities."""
    import cv2

    mask = cv2.dilate((likely > _PIXEL_THRESHOLD).astype(np.uint8), np.ones((2, 2), np.uint8))
    for outline in cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)[0]:
        centre, (width, height), angle = cv2.minAreaRect(outline)
        if min(width, height) < _SHRUNK_HEIGHT:
            continue
        if _mean_inside(likely, cv2.boxPoints((centre, (width, height), angle))) < _LINE_THRESHOLD:
            continue
        # The distance of eq. (10), by which each side moves outwards.
        distance = width * height * _EXPANSION / (2 * (width + height))
        sides = (width + 2 * distance, height + 2 * distance)
        if min(sides) >= _HEIGHT:
            yield _in_order(cv2.boxPoints((centre, sides, angle)))


def _mean_inside(likely: Map, corners: Corners) -> float:
    import cv2

    limits = np.array(likely.shape[::-1]) - 1
    left, top = np.floor(corners.min(0)).astype(int).clip(0, limits)
    right, bottom = np.ceil(corners.max(0)).astype(int).clip(0, limits)
    mask = np.zeros((bottom - top + 1, right - left + 1), np.uint8)
    cv2.fillPoly(mask, [(corners - (left, top)).astype(np.int32)], 1)
    return float(cv2.mean(likely[top : bottom + 1, left : right + 1], mask)[0])


def _in_order(corners: Corners) -> Corners:
    """Return the corners clockwise from the top left one."""
    from_left = corners[np.argsort(corners[:, 0], kind="stable")]
    left, right = (side[np.argsort(side[:, 1], kind="stable")] for side in (from_left[:2], from_left[2:]))
    return np.stack([left[0], right[0], right[1], left[1]])
