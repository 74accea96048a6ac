"""Reads the text in an image with the networks of rapidocr (Apache-2.0): PP-OCRv6, by PaddleOCR.

Only the ONNX networks of the package are used. Its code is never imported: it downloads files that are
missing, reads a configuration from a path, and configures logging.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from safelight.errors import MissingExtraError, ModelError
from safelight.filters.image.line_reader import LineReader
from safelight.filters.image.text_detector import TextDetector
from safelight.filters.image.text_gate import TextGate
from safelight.filters.image.text_line import TextLine
from safelight.models.files import file_sha256, package_folder

_PACKAGE = "rapidocr"
MODULES = (_PACKAGE, "cv2")
# The networks in rapidocr 3.10.0, with their hashes.
_DETECTION, _RECOGNITION = "PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"
_DIRECTION = "ch_ppocr_mobile_v2.0_cls_mobile.onnx"
_PINNED = {
    _DETECTION: "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
    _RECOGNITION: "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
    _DIRECTION: "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
}
# Text that is lower than this cannot be read; neither can any in an image that is.
_LEAST_PIXELS = 8


@dataclass(frozen=True, slots=True)
class ReadText:
    """The lines that were read, and those that were found but not read because there were too many."""

    lines: tuple[TextLine, ...] = ()
    unread: tuple[TextLine, ...] = ()


class TextReader:
    """Reads the ``count`` largest lines of text in an image, and keeps those it is confident of.

    Raises ``MissingExtraError`` if the networks are not installed, and ``ModelError`` if one was altered.
    """

    def __init__(self, confidence: float, count: int) -> None:
        folder = _networks()
        self.version = f"{_PACKAGE} {_PINNED[_RECOGNITION][:12]}"
        self._gate = TextGate()
        self._detector = TextDetector(folder / _DETECTION)
        self._reader = LineReader(folder / _RECOGNITION, folder / _DIRECTION)
        self._confidence = confidence
        self._count = count

    def read(self, image: Image.Image) -> ReadText:
        """Return the text in an RGB image."""
        if min(image.size) < _LEAST_PIXELS or not self._gate.passes(image):
            return ReadText()
        pixels = np.asarray(image)
        found = self._detector.find(pixels)
        read = (self._reader.read(pixels, line) for line in found[: self._count])
        kept = tuple(line for line in read if line.confidence >= self._confidence)
        return ReadText(kept, tuple(found[self._count :]))


def _networks() -> Path:
    """Return the folder of the networks, whose hashes are checked."""
    package = package_folder(_PACKAGE)
    if not package or find_spec("cv2") is None:
        raise MissingExtraError('the image filter "ocr"', "images")
    folder = package / "models"
    for name, pinned in _PINNED.items():
        if not (folder / name).is_file() or file_sha256(folder / name) != pinned:
            raise ModelError(
                f"{folder / name} is missing or does not have the pinned sha256; install rapidocr 3.10.0."
            )
    return folder
