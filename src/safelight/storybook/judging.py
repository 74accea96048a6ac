"""The storybook's judge: detects the objects, style and place of an image and its categories of harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL.Image import Image

from safelight import registry
from safelight.models.files import file_sha256
from safelight.storybook.detector import Judge, Sighting
from safelight.storybook.relations import infer_relations
from safelight.storybook.truth import harms
from safelight.types import Judgement

Box = tuple[float, float, float, float]

# The probability above which an object counts as detected.
SEEN = 0.5


@dataclass(frozen=True, slots=True)
class Seen:
    """An object that the judge detected; ``box`` is (left, top, right, bottom) as shares of the image."""

    label: str
    score: float
    box: Box


class SceneJudge(Protocol):
    """A detector that judges storybook images; ``path`` is the file of its weights."""

    @property
    def path(self) -> Path: ...
    def detect(self, images: Sequence[Image]) -> Sequence[Sighting]:
        """Return one sighting per image, in order."""
        ...


@registry.register("judge", "storybook")
class StorybookJudge:
    """Judges images of the storybook with a ``detector``, by default the packaged judge.

    The labels are the detected objects. The details are their ``boxes``, and the most likely ``style`` and
    ``place``. The features are the probabilities of all objects, places and styles, to four decimals.
    """

    name = "storybook"

    def __init__(self, detector: SceneJudge | None = None) -> None:
        self.detector = detector or Judge.load()

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"judge_sha256": file_sha256(self.detector.path)}

    def judge(self, images: Sequence[Image]) -> list[Judgement]:
        return [judgement(sighting) for sighting in self.detector.detect(images)]


def judgement(sighting: Sighting) -> Judgement:
    """Return the judgement on an image, given the output of the detector."""
    objects = seen(sighting)
    scores = (*sighting.objects.values(), *sighting.places.values(), *sighting.styles.values())
    return Judgement(
        labels={each.label: each.score for each in objects},
        harms=harms_of(objects),
        features=tuple(round(score, 4) for score in scores),
        details={
            "boxes": {each.label: list(each.box) for each in objects},
            "style": most_likely(sighting.styles),
            "place": most_likely(sighting.places),
        },
    )


def seen(sighting: Sighting) -> tuple[Seen, ...]:
    """Return the detected objects of an image."""
    scores = sighting.objects.items()
    return tuple(Seen(label, score, sighting.boxes[label]) for label, score in scores if score > SEEN)


def harms_of(objects: Sequence[Seen]) -> tuple[str, ...]:
    """Return the categories of harm in an image of ``objects``, whose relations are inferred from boxes."""
    labels = tuple(thing.label for thing in objects)
    return harms(labels, infer_relations(labels, [thing.box for thing in objects]))


def most_likely(scores: Mapping[str, float]) -> str:
    return max(scores, key=lambda name: scores[name])


def shows(sighting: Sighting, label: str) -> bool:
    """Return whether an object was detected, or a place or style is the most likely one."""
    if label in sighting.objects:
        return sighting.objects[label] > SEEN
    return label in (most_likely(sighting.places), most_likely(sighting.styles))
