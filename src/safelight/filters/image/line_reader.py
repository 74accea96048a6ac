"""Recognition of the text in one line of an image, by PP-OCRv6 and PP-OCR's direction classifier."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from safelight.errors import ModelError
from safelight.filters.image.text_detector import Pixels, bgr_input
from safelight.filters.image.text_line import TextLine
from safelight.models.onnx import open_session

if TYPE_CHECKING:
    import onnxruntime

# The height in pixels to which every line is scaled, and the width of which the direction is judged.
_HEIGHT, _DIRECTION_WIDTH = 48, 192
# A line is read from top to bottom if it is this much higher than wide.
_VERTICAL = 1.5
# The lowest probability at which a line counts as upside down, judged by its first part, in multiples of its
# height. A line that is read with less confidence than this is read the other way round as well.
_UPSIDE_DOWN, _JUDGED, _SURE = 0.9, 16, 0.8
# A longer line, in multiples of its height, is read in pieces; the network is wasteful on longer ones.
_LONGEST = 50
_WIDTH_STEP, _LEAST_WIDTH = 32, 64
_BLANK = 0


class LineReader:
    """Reads lines of text: letters of the Latin and Greek alphabets, Chinese and Japanese.

    Raises ``ModelError`` for a file that cannot be loaded or names no characters.
    """

    def __init__(self, recognition: Path, direction: Path) -> None:
        self._recognition = open_session(recognition)
        self._direction = open_session(direction)
        listed = self._recognition.get_modelmeta().custom_metadata_map.get("character")
        if not listed:
            raise ModelError(f"{recognition} names no characters; install rapidocr again.")
        self._characters = ["", *listed.splitlines(), " "]

    def read(self, pixels: Pixels, line: TextLine) -> TextLine:
        """Return the line in RGB pixels (H, W, 3), with its text, confidence and direction of reading."""
        if line.height >= _VERTICAL * line.length:
            line = line.turned(1)
        strip = _straightened(pixels, line)
        if self._is_upside_down(strip):
            line, strip = line.turned(2), strip[::-1, ::-1]
        read = self._read(strip, line)
        if read.confidence >= _SURE:
            return read
        return max(read, self._read(strip[::-1, ::-1], line.turned(2)), key=lambda each: each.confidence)

    def _is_upside_down(self, strip: Pixels) -> bool:
        judged = strip[:, : _JUDGED * strip.shape[0]]
        (scores,) = _run(self._direction, _fitted(judged, _DIRECTION_WIDTH))
        return float(scores[1]) > _UPSIDE_DOWN

    def _read(self, strip: Pixels, line: TextLine) -> TextLine:
        texts, certain = zip(*(self._recognised(piece) for piece in _pieces(strip)), strict=True)
        probabilities = np.concatenate(certain)
        confidence = float(probabilities.mean()) if probabilities.size else 0.0
        return replace(line, text="".join(texts).strip(), confidence=confidence)

    def _recognised(self, strip: Pixels) -> tuple[str, NDArray[np.float32]]:
        """Return the text of a strip, and the probability of each of its characters."""
        width = max(_LEAST_WIDTH, math.ceil(_HEIGHT * strip.shape[1] / strip.shape[0]))
        (steps,) = _run(self._recognition, _fitted(strip, -(-width // _WIDTH_STEP) * _WIDTH_STEP))
        # The best path of CTC: repeated characters count once, and blanks not at all (Graves et al. 2006).
        best = steps.argmax(1)
        kept = (best != _BLANK) & (np.diff(best, prepend=_BLANK) != 0)
        return "".join(self._characters[number] for number in best[kept]), steps.max(1)[kept]


def _run(session: onnxruntime.InferenceSession, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    output: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: pixels})[0]
    return output


def _straightened(pixels: Pixels, line: TextLine) -> Pixels:
    """Return the part of the image under a line, as a strip in its direction."""
    import cv2

    width, height = max(1, int(line.length)), max(1, int(line.height))
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    matrix = cv2.getPerspectiveTransform(line.corners, target)
    strip: Pixels = cv2.warpPerspective(
        pixels, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return strip


def _fitted(strip: Pixels, width: int) -> NDArray[np.float32]:
    """Return a strip at the height of the networks, squeezed or padded to this width."""
    import cv2

    natural = math.ceil(_HEIGHT * strip.shape[1] / strip.shape[0])
    padded = np.zeros((1, 3, _HEIGHT, width), np.float32)
    scaled = cv2.resize(strip, (min(width, natural), _HEIGHT))
    padded[:, :, :, : scaled.shape[1]] = bgr_input(scaled)
    return padded


def _pieces(strip: Pixels) -> Iterator[Pixels]:
    """Yield a strip in pieces that are not too long, cut where it changes least from top to bottom."""
    height, longest = strip.shape[0], _LONGEST * strip.shape[0]
    while strip.shape[1] > longest:
        near = strip[:, longest - 2 * height : longest]
        cut = longest - 2 * height + int(near.std(0).sum(1).argmin())
        yield strip[:, :cut]
        strip = strip[:, cut:]
    yield strip
