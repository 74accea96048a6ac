"""Rules about company: labels that are harmless apart and harmful together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from safelight.policy.table import Names, Score, Table
from safelight.types import WHOLE_IMAGE, Box, Stage

Stages = Annotated[tuple[Stage, ...], Field(strict=False, min_length=1)]
Boxes = Mapping[str, Sequence[Box]]
# Where things are that were found without a place.
_ANYWHERE = (WHOLE_IMAGE,)
# How sure a filter must be of something harmless before it excuses something harmful.
_CONFIDENT = 0.5


class ContextRule(Table):
    """Labels that are harmless apart and harmful together.

    Every label of ``all`` and one of ``any`` must be seen. A label of ``unless``, seen with confidence,
    excuses the company, but never a label of ``protected``. With ``overlap``, only such company counts as
    shares at least this much of the smaller box with every label of ``all``, as a hand and what it holds do;
    ``protected`` company counts at any distance, and so does what was found without a box. Of words that
    lie ``beside`` an image that was looked at, a rule with ``overlap`` for images sees protected company
    alone: how close the rest is, the image shows.
    """

    category: str
    stages: Stages = ("image", "pair")
    all: Names = ()
    any: Names = ()
    unless: Names = ()
    protected: Names = ()
    overlap: Score = 0.0
    score: Score = 1.0

    @model_validator(mode="after")
    def _has_labels(self) -> Self:
        if not self.all and not self.any:
            raise ValueError("the rule names no label; list some under all or any")
        return self

    def apply(
        self, seen: Mapping[str, float], boxes: Boxes, *, beside: bool = False
    ) -> tuple[float, tuple[str, ...]]:
        """The rule's score, ``score`` times the weakest label it needs, and the labels that made it."""
        if not all(seen.get(label) for label in self.all):
            return 0.0, ()
        told_by_image = beside and self.overlap > 0 and bool(self.any) and "image" in self.stages
        spared = told_by_image or any_of(seen, self.unless) >= _CONFIDENT
        company = self.protected if spared else self._company(seen, boxes)
        if not company and (spared or self.any):
            return 0.0, ()
        needed = [seen[label] for label in self.all]
        if company:
            needed.append(any_of(seen, company))
        return self.score * min(needed), (*self.all, *(label for label in company if seen.get(label)))

    def _company(self, seen: Mapping[str, float], boxes: Boxes) -> tuple[str, ...]:
        """Those of ``any`` that were seen, and close enough."""
        present = [label for label in self.any if seen.get(label)]
        near = self.protected if self.overlap else present
        return tuple(label for label in present if label in near or self._close(label, boxes))

    def _close(self, label: str, boxes: Boxes) -> bool:
        """Not "at least": a box that is no number is close."""
        mine = boxes.get(label, _ANYWHERE)
        return all(
            any(not _shared(a, b) < self.overlap for a in boxes.get(thing, _ANYWHERE) for b in mine)
            for thing in self.all
        )


def any_of(seen: Mapping[str, float], labels: Iterable[str]) -> float:
    """The highest score among ``labels``; 0 if none was seen."""
    return max((seen.get(label, 0.0) for label in labels), default=0.0)


def _shared(one: Box, other: Box) -> float:
    """How much of the smaller box lies in the other; all of a box without area."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    smaller = min((box.right - box.left) * (box.bottom - box.top) for box in (one, other))
    return max(0.0, width) * max(0.0, height) / smaller if smaller > 0 else 1.0
