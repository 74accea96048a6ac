"""A judge, as a function and as a class.

The function is enough for ``safelight evaluate run --judge safelight_examples.my_judge:judge``. The class
decides itself what is harmful, and can be registered under a name.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL.Image import Image

from safelight.types import Judgement
from safelight_examples.my_filter import RedShare


def judge(images: Sequence[Image]) -> list[dict[str, float]]:
    """Return for each image its labels with their probabilities."""
    return [{finding.label: finding.score for finding in found} for found in RedShare().find(images)]


class RedJudge:
    name = "red-judge"

    def __init__(self, least: float = 0.2) -> None:
        self.settings = {"judge": self.name, "least": least}
        self._least = least

    def judge(self, images: Sequence[Image]) -> list[Judgement]:
        said = judge(images)
        return [Judgement(labels, ("red",) if labels["red"] >= self._least else ()) for labels in said]
