"""What a judge's sighting of a picture says: what is seen, in which style, and which harm it is in truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from PIL.Image import Image

from safelight.evaluation.record import Seen
from safelight.evaluation.relations import infer_relations
from safelight.models.files import file_sha256
from safelight.storybook.detector import Sighting
from safelight.storybook.truth import harms

# Above which probability something counts as seen.
SEEN = 0.5


class SceneJudge(Protocol):
    """A judge of storybook pictures; ``path`` is the file of its weights."""

    @property
    def path(self) -> Path: ...
    def detect(self, images: Sequence[Image]) -> Sequence[Sighting]:
        """One sighting per picture, in order."""
        ...


def sha256(judge: SceneJudge) -> str:
    return file_sha256(judge.path)


def seen(sighting: Sighting) -> tuple[Seen, ...]:
    scores = sighting.objects.items()
    return tuple(Seen(label, score, sighting.boxes[label]) for label, score in scores if score > SEEN)


def harms_of(objects: Sequence[Seen]) -> tuple[str, ...]:
    """The categories of harm in a picture that shows ``objects``, their relations read off the boxes."""
    labels = tuple(thing.label for thing in objects)
    return harms(labels, infer_relations(labels, [thing.box for thing in objects]))


def most_likely(scores: Mapping[str, float]) -> str:
    return max(scores, key=lambda name: scores[name])


def shows(sighting: Sighting, label: str) -> bool:
    """Whether an object is there, or a place or style is the likeliest."""
    if label in sighting.objects:
        return sighting.objects[label] > SEEN
    return label in (most_likely(sighting.places), most_likely(sighting.styles))
