"""The image filter of the embedded storybook world."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from safelight.registry import register
from safelight.types import Box, Finding

if TYPE_CHECKING:
    from PIL.Image import Image

    from safelight.storybook.detector import Sighting

# Below this a sighting says nothing; no useful threshold is lower.
_LEAST_SCORE = 0.05


@register("image_filter", "storybook-image")
class StorybookImage:
    """Reports every object of a storybook picture that the filter's own detector sees, with its box."""

    def __init__(self, name: str = "storybook-image") -> None:
        from safelight.storybook.detector import Detector
        from safelight.storybook.vocabulary import LABELS

        self.name = name
        self.labels = frozenset(LABELS)
        self._detector = Detector.load("filter")
        self.version = hashlib.sha256(self._detector.path.read_bytes()).hexdigest()[:12]

    def find(self, images: Sequence[Image]) -> list[list[Finding]]:
        return [self._findings(sighting) for sighting in self._detector.detect(images)]

    def _findings(self, sighting: Sighting) -> list[Finding]:
        return [
            Finding(label, score, self.name, Box(*sighting.boxes[label]) if label in sighting.boxes else None)
            for label, score in sighting.objects.items()
            if not score < _LEAST_SCORE
        ]
