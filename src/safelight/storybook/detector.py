"""Detectors of the storybook world: objects with boxes, place and style of an image.

Two independently trained detectors are packaged: the *judge* labels images in evaluations, the *filter* works
in the guard. Both run on ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safelight.models.onnx import open_session
from safelight.storage.packaged_files import read_bytes
from safelight.storybook.vocabulary import LABELS, PLACES, STYLES

INPUT_PX = 64
_FOLDER = Path(__file__).parent / "detectors"
_BATCH = 64

Box = tuple[float, float, float, float]
Scores = dict[str, float]


@dataclass(frozen=True, slots=True)
class Sighting:
    """The output of a detector for one image. Scores are calibrated probabilities in [0, 1].

    ``boxes`` are (left, top, right, bottom) as shares of the image: the most likely position of each label,
    which is meaningful only if its score is high. ``places`` and ``styles`` each sum to one.
    """

    objects: Scores
    boxes: dict[str, Box]
    places: Scores
    styles: Scores


class Detector:
    """A detector in an ONNX file.

    Raises ``ModelError`` if the weights are missing, damaged or altered.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        network = read_bytes(path) if path.is_file() else None
        self.sha256 = sha256(network or b"").hexdigest()
        self._session = open_session(path, network=network)

    @classmethod
    def load(cls, name: str) -> Self:
        """Load the packaged detector ``name``: "judge" or "filter"."""
        return cls(_FOLDER / f"{name}.onnx")

    def detect(self, images: Sequence[Image.Image]) -> list[Sighting]:
        """Return one sighting for each image; images are converted to RGB and resized to 64 by 64 pixels."""
        sightings: list[Sighting] = []
        for start in range(0, len(images), _BATCH):
            pixels = np.stack([_pixels(image) for image in images[start : start + _BATCH]])
            outputs = self._session.run(["objects", "boxes", "places", "styles"], {"pixels": pixels})
            sightings.extend(_sighting(*row) for row in zip(*outputs, strict=True))
        return sightings


class Judge(Detector):
    """The detector that labels images in evaluations; guards do not use it."""

    @classmethod
    def load(cls, name: str = "judge") -> Self:
        return super().load(name)

    def objects(self, images: Sequence[Image.Image]) -> list[Scores]:
        """Return the probability of every label for each image."""
        return [sighting.objects for sighting in self.detect(images)]


def _pixels(image: Image.Image) -> NDArray[np.float32]:
    """Return the image as an array (3, 64, 64) in [0, 1]."""
    rgb = image.convert("RGB")
    if rgb.size != (INPUT_PX, INPUT_PX):
        rgb = rgb.resize(
            (INPUT_PX, INPUT_PX), Image.Resampling.BOX if rgb.width > INPUT_PX else Image.Resampling.BICUBIC
        )
    return np.asarray(rgb, np.float32).transpose(2, 0, 1) / np.float32(255)


def _sighting(
    objects: NDArray[Any], boxes: NDArray[Any], places: NDArray[Any], styles: NDArray[Any]
) -> Sighting:
    return Sighting(
        dict(zip(LABELS, objects.tolist(), strict=True)),
        dict(zip(LABELS, map(tuple, boxes.tolist()), strict=True)),
        dict(zip(PLACES, places.tolist(), strict=True)),
        dict(zip(STYLES, styles.tolist(), strict=True)),
    )
