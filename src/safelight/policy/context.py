"""Context rules: labels that are harmless on their own and harmful in combination."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from safelight.policy.table import Names, Score, Table
from safelight.types import WHOLE_IMAGE, Box, Stage

Stages = Annotated[tuple[Stage, ...], Field(strict=False, min_length=1)]
Boxes = Mapping[str, Sequence[Box]]
# The box of a label that was found without a box.
_ANYWHERE = (WHOLE_IMAGE,)
# Lowest score at which a label under ``unless`` makes the combination harmless.
_CONFIDENT = 0.5


class ContextRule(Table):
    """A rule for labels that are harmless on their own and harmful in combination.

    The rule applies if every label of ``all`` and at least one label of ``any`` were found. If a label of
    ``unless`` was found with a score of at least 0.5, the labels of ``any`` do not count, except those of
    ``protected``. With ``overlap``, a label of ``any`` counts only if its box overlaps a box of every label
    of ``all`` by at least this share of the smaller box, as a hand overlaps the object in it; ``protected``
    labels and labels without a box count at any distance. In text that accompanies a screened image
    (``beside``), a rule with ``overlap`` that also applies to images counts only ``protected`` labels,
    because the image itself shows how close the others are.
    """

    category: str
    """Category that the rule counts for."""
    stages: Stages = ("image", "pair")
    """Stages at which the rule is applied."""
    all: Names = ()
    """Labels that must all be found."""
    any: Names = ()
    """Labels of which at least one must be found, unless the list is empty."""
    unless: Names = ()
    """Labels that make the combination harmless if one is found with a score of at least 0.5."""
    protected: Names = ()
    """Labels of ``any`` that ``unless`` and ``overlap`` do not excuse, such as a child."""
    overlap: Score = 0.0
    """Smallest share of the smaller box that must lie in the other box for two labels to count together; at 0
    the distance does not matter."""
    score: Score = 1.0
    """Factor by which the lowest score of the labels is multiplied."""

    @model_validator(mode="after")
    def _has_labels(self) -> Self:
        if not self.all and not self.any:
            raise ValueError("the rule names no label; list some under all or any")
        return self

    def apply(
        self, seen: Mapping[str, float], boxes: Boxes, *, beside: bool = False
    ) -> tuple[float, tuple[str, ...]]:
        """Return the rule's score and the labels that it comes from.

        The score is ``score`` times the lowest score of these labels, 0 if the rule does not apply.
        ``beside`` means that the findings come from text that accompanies an image.
        """
        if not all(seen.get(label) for label in self.all):
            return 0.0, ()
        left_to_image = beside and self.overlap > 0 and bool(self.any) and "image" in self.stages
        only_protected = left_to_image or any_of(seen, self.unless) >= _CONFIDENT
        nearby = self.protected if only_protected else self._nearby(seen, boxes)
        if not nearby and (only_protected or self.any):
            return 0.0, ()
        needed = [seen[label] for label in self.all]
        if nearby:
            needed.append(any_of(seen, nearby))
        return self.score * min(needed), (*self.all, *(label for label in nearby if seen.get(label)))

    def _nearby(self, seen: Mapping[str, float], boxes: Boxes) -> tuple[str, ...]:
        """Return the labels of ``any`` that were found close enough."""
        present = [label for label in self.any if seen.get(label)]
        near = self.protected if self.overlap else present
        return tuple(label for label in present if label in near or self._close(label, boxes))

    def _close(self, label: str, boxes: Boxes) -> bool:
        """Whether a label is close to every label of ``all``; a box with a NaN counts as close."""
        mine = boxes.get(label, _ANYWHERE)
        return all(
            any(not _shared(a, b) < self.overlap for a in boxes.get(thing, _ANYWHERE) for b in mine)
            for thing in self.all
        )


def any_of(seen: Mapping[str, float], labels: Iterable[str]) -> float:
    """Return the highest score among ``labels``; 0 if none was found."""
    return max((seen.get(label, 0.0) for label in labels), default=0.0)


def _shared(one: Box, other: Box) -> float:
    """Return the share of the smaller box that lies in the other one; 1 for a box without area."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    smaller = min((box.right - box.left) * (box.bottom - box.top) for box in (one, other))
    return max(0.0, width) * max(0.0, height) / smaller if smaller > 0 else 1.0
