"""Evaluation of the packaged detectors, judge and filter, on new renders with exact ground truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from safelight.errors import RequestError, unknown_name
from safelight.evaluation.command_line import command_line
from safelight.evaluation.detection import (
    exact_rows,
    false_positive_rows,
    flags,
    overlap,
    recall_rows,
    share,
)
from safelight.evaluation.results import write_results
from safelight.evaluation.run import Progress
from safelight.evaluation.tables import Tables
from safelight.models.files import file_sha256
from safelight.storybook import judging
from safelight.storybook.detector import Detector, Sighting
from safelight.storybook.relations import infer_relations
from safelight.storybook.scene import Scene, Storybook
from safelight.storybook.truth import Relation, harms
from safelight.storybook.vocabulary import LABELS

DETECTORS = ("judge", "filter")
_FEWEST = 100  # the smallest number of scenes: fewer may have no harmful scene among them
_CHUNK = 64
_MATCH = 0.5  # the smallest intersection over union of a correct box


@dataclass(frozen=True, slots=True)
class Look:
    """A scene, and the output of a detector for its image."""

    scene: Scene
    sighting: Sighting

    @property
    def seen(self) -> frozenset[str]:
        return frozenset(thing.label for thing in judging.seen(self.sighting))

    @property
    def overlaps(self) -> list[float]:
        """The intersection over union for every label that is present once and was detected."""
        return [
            overlap(box, self.sighting.boxes[label])
            for label, box in zip(self.scene.objects, self.scene.boxes, strict=True)
            if self.scene.objects.count(label) == 1 and self.sighting.objects[label] > judging.SEEN
        ]


def evaluate_detector(
    name: str, out: Path, scenes: int = 5000, seed: int = 9000, progress: Progress | None = None
) -> dict[str, Any]:
    """Evaluate the detector ``name`` on scenes 0 to ``scenes`` of the storybook ``seed``.

    Writes ``results.json`` in ``out`` and returns its content. Raises ``RequestError`` for an unknown
    detector or fewer than 100 scenes, ``ModelError`` if its weights are missing.
    """
    if name not in DETECTORS:
        raise RequestError(unknown_name("detector", name, DETECTORS))
    if scenes < _FEWEST:
        raise RequestError(f"the number of scenes is at least {_FEWEST}, not {scenes}.")
    detector = Detector.load(name)
    looks = list(look(detector, Storybook(seed), scenes, progress))
    overlaps = [iou for each in looks for iou in each.overlaps]
    return write_results(
        out / "results.json",
        command_line(name, scenes=scenes, seed=seed),
        {"detector": name, "sha256": file_sha256(detector.path), "scenes": scenes, "seed": seed},
        detector_tables(looks),
        {"mean_iou": fmean(overlaps) if overlaps else None},
    )


def look(
    detector: judging.SceneJudge, book: Storybook, count: int, progress: Progress | None = None
) -> Iterator[Look]:
    """Yield the first ``count`` scenes of ``book``, each with the output of ``detector``."""
    for start in range(0, count, _CHUNK):
        scenes = list(book.scenes(min(_CHUNK, count - start), start))
        yield from map(Look, scenes, detector.detect([scene.image for scene in scenes]))
        if progress:
            progress(start + len(scenes), count)


def detector_tables(looks: Sequence[Look]) -> Tables:
    """Return the tables of the evaluation.

    ``recall`` and ``false_positives`` are by label; ``exact`` is the rate of images for which exactly the
    right labels were detected; ``relations`` and ``harms`` are the rates at which relations and categories of
    harm that are inferred from boxes, true or detected ones, agree with the ground truth.
    """
    there, seen = flags((x.scene.objects for x in looks), LABELS), flags((x.seen for x in looks), LABELS)
    return {
        "recall": recall_rows(there, seen, LABELS),
        "false_positives": false_positive_rows(there, seen, LABELS),
        "exact": exact_rows(there, seen),
        "styles": share("all", (judging.most_likely(x.sighting.styles) == x.scene.style for x in looks)),
        "places": share("all", (judging.most_likely(x.sighting.places) == x.scene.place for x in looks)),
        "boxes": share("overlap at least 0.5", (iou >= _MATCH for x in looks for iou in x.overlaps)),
        "relations": share("true boxes", (_inferred(x.scene) == _bound(x.scene) for x in looks)),
        "harms": [
            *share(
                "true boxes", (harms(x.scene.objects, _inferred(x.scene)) == x.scene.harms for x in looks)
            ),
            *share("its boxes", (judging.harms_of(judging.seen(x.sighting)) == x.scene.harms for x in looks)),
        ],
    }


def _inferred(scene: Scene) -> tuple[Relation, ...]:
    return _in_order(infer_relations(scene.objects, scene.boxes))


def _bound(scene: Scene) -> tuple[Relation, ...]:
    """Return the true relations of the kinds that can be inferred."""
    return _in_order(relation for relation in scene.relations if relation.name in ("holding", "on"))


def _in_order(relations: Iterable[Relation]) -> tuple[Relation, ...]:
    return tuple(sorted(relations, key=lambda r: (r.name, r.subject, r.target)))
