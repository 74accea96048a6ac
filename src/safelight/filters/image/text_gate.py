"""The text gate: a small network that tells in a few milliseconds whether an image may show text."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from safelight.models.onnx import open_session

_NETWORK = Path(__file__).with_name("text_gate.onnx")
# The network sees an image at this number of pixels, and for large text at a third of these sides.
_PIXELS, _LARGE = 512 * 512, 3
# The least side of its input.
_LEAST = 32
# The logit from which an image passes: it stops 1 % of the text on which it was chosen (text_gate.md).
_THRESHOLD = 0.6


class TextGate:
    """Tells whether an image may show text. Raises ``ModelError`` if the network was altered."""

    def __init__(self) -> None:
        self._session = open_session(_NETWORK)

    def passes(self, image: Image.Image) -> bool:
        """Return whether an RGB image may show text."""
        return self.logit(image) >= _THRESHOLD

    def logit(self, image: Image.Image) -> float:
        """Return the log odds that the likeliest place of an RGB image shows text."""
        scale = math.sqrt(_PIXELS / (image.width * image.height))
        if scale < 1:
            width, height = (max(1, round(length * scale)) for length in image.size)
            image = image.resize((width, height), Image.Resampling.BOX)
        return max(self._logit(each) for each in (image, image.reduce(_LARGE)))

    def _logit(self, image: Image.Image) -> float:
        # Copying the bytes before they become floats is faster than ONNX Runtime's copy of the floats.
        planes = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))[None]
        missing = ((0, max(0, _LEAST - length)) for length in planes.shape[2:])
        if min(planes.shape[2:]) < _LEAST:
            planes = np.pad(planes, ((0, 0), (0, 0), *missing), "edge")
        return float(self._session.run(None, {"pixels": planes.astype(np.float32)})[0].max())
