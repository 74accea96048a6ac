"""The image filter for images of the storybook model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safelight.registry import register
from safelight.types import MIN_SCORE, Box, Finding

if TYPE_CHECKING:
    from PIL.Image import Image

    from safelight.storybook.detector import Sighting


@register("image_filter", "storybook-image")
class StorybookImage:
    """Reports every object that the filter's detector finds in a storybook image, with its box.

    With ``styles`` it reports the style as well, for policies that have other rules for drawings.
    """

    def __init__(self, styles: bool = False, name: str = "storybook-image") -> None:
        from safelight.storybook.detector import Detector
        from safelight.storybook.vocabulary import LABELS, STYLES

        self.name = name
        self.labels = frozenset((*LABELS, *STYLES) if styles else LABELS)
        self._styles = styles
        self._detector = Detector.load("filter")
        self.version = self._detector.sha256[:12]

    def find(self, images: Sequence[Image]) -> list[list[Finding]]:
        return [self._findings(sighting) for sighting in self._detector.detect(images)]

    def _findings(self, sighting: Sighting) -> list[Finding]:
        scores = {**sighting.objects, **(sighting.styles if self._styles else {})}
        return [
            Finding(label, score, self.name, Box(*sighting.boxes[label]) if label in sighting.boxes else None)
            for label, score in scores.items()
            if not score < MIN_SCORE
        ]
