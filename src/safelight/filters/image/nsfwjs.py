"""nsfwjs: sexual content in photographs and in drawings, by a small packaged network (MIT)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safelight.concurrency.thread_map import ThreadMap
from safelight.errors import FilterError
from safelight.filters.image.options import check_share, check_threads
from safelight.filters.image.transformers_model import as_rgb
from safelight.models.onnx import open_session
from safelight.registry import register
from safelight.types import MIN_SCORE, Finding

NETWORK = Path(__file__).with_name("classifiers") / "nsfwjs" / "model.onnx"
NETWORK_SHA256 = "862b222afe541feafcef66835d27c8ae8dbd13cf8cc1c00a698cd357e7b9d2e6"
# The classes of the network in the order of its outputs, and those that are harmless.
_CLASSES = ("drawing", "hentai", "neutral", "porn", "sexy")
_HARMLESS = {"drawing", "neutral"}
_SIDE = 224


@register("image_filter", "nsfwjs")
class Nsfwjs:
    """Reports how likely an image is of three kinds of sexual content: ``porn``, ``hentai`` and ``sexy``.

    ``porn`` are photographs of sexual acts and of exposed sexual parts, ``hentai`` are drawings of the same,
    and ``sexy`` is what is suggestive without being either. The scores of these labels and of two harmless
    classes, photographs and drawings, add up to 1. Scores below ``threshold`` are left out. ``threads`` is
    the number of threads, by default one per CPU core.

    Raises ``ModelError`` if the network was altered, and ``FilterError`` for invalid options. An image that
    cannot be read is blocked. https://github.com/infinitered/nsfwjs
    """

    labels = frozenset(_CLASSES) - _HARMLESS

    def __init__(
        self, threshold: float = MIN_SCORE, threads: int | None = None, name: str = "nsfwjs"
    ) -> None:
        check_share("threshold", threshold)
        check_threads(threads)
        self.name = name
        self.version = f"4.3.0 {NETWORK_SHA256[:12]}"
        self._session = open_session(NETWORK)
        self._input = self._session.get_inputs()[0].name
        self._threshold = threshold
        self._map = ThreadMap(threads)

    def find(self, images: Sequence[Image.Image]) -> list[list[Finding] | FilterError]:
        """Process images one by one on several threads: on a CPU a batch is not faster."""
        return self._map(self._findings, images)

    def _findings(self, image: Image.Image) -> list[Finding] | FilterError:
        rgb = as_rgb(image)
        if isinstance(rgb, FilterError):
            return rgb
        scores = self._session.run(None, {self._input: _pixels(rgb)})[0][0].tolist()
        return [
            Finding(label, score, self.name)
            for label, score in zip(_CLASSES, scores, strict=True)
            if label in self.labels and not score < self._threshold
        ]


def _pixels(rgb: Image.Image) -> NDArray[np.float32]:
    """Return the image as (1, 3, 224, 224) in [0, 1].

    It is scaled without regard to its aspect ratio, and every pixel counts, as in the network's training. The
    package itself skips pixels when it scales down, so that another image could be hidden in those it skips.
    """
    scaled = rgb.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    return np.asarray(scaled, np.float32).transpose(2, 0, 1)[None] / np.float32(255)
