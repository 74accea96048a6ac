"""The evaluation of a detector on fresh renders, whose truth is exact: for the cards of judge and filter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from safelight.errors import RequestError, unknown_name
from safelight.evaluation.rates import Rate
from safelight.evaluation.results import write_results
from safelight.evaluation.run import Progress
from safelight.evaluation.tables import Row, Tables
from safelight.models.files import file_sha256
from safelight.storybook import judging
from safelight.storybook.detector import Detector, Sighting
from safelight.storybook.relations import Box, infer_relations
from safelight.storybook.scene import Scene, Storybook
from safelight.storybook.truth import Relation, harms
from safelight.storybook.vocabulary import LABELS

DETECTORS = ("judge", "filter")
_FEWEST = 100  # scenes: with fewer, some have no harm among them and rates say nothing
_CHUNK = 64
_MATCH = 0.5  # the overlap from which on a box counts as right


@dataclass(frozen=True, slots=True)
class Look:
    """A scene, and what a detector saw in its image."""

    scene: Scene
    sighting: Sighting

    @property
    def seen(self) -> frozenset[str]:
        return frozenset(thing.label for thing in judging.seen(self.sighting))

    @property
    def harms_by_its_boxes(self) -> tuple[str, ...]:
        return judging.harms_of(judging.seen(self.sighting))

    @property
    def harms_by_true_boxes(self) -> tuple[str, ...]:
        return harms(self.scene.objects, _inferred(self.scene))


def evaluate_detector(
    name: str, out: Path, scenes: int = 5000, seed: int = 9000, progress: Progress | None = None
) -> dict[str, Any]:
    """How often the detector ``name`` is right on scenes 0 to ``scenes`` of the storybook ``seed``.

    Writes ``results.json`` in ``out`` and gives what it holds. Raises ``RequestError`` for an unknown
    detector or fewer than 100 scenes, ``ModelError`` if its weights are missing.
    """
    if name not in DETECTORS:
        raise RequestError(unknown_name("detector", name, DETECTORS))
    if scenes < _FEWEST:
        raise RequestError(f"the number of scenes is at least {_FEWEST}, not {scenes}.")
    detector = Detector.load(name)
    looks = list(look(detector, Storybook(seed), scenes, progress))
    return write_results(
        out / "results.json",
        f"safelight evaluate {name} --scenes {scenes} --seed {seed}",
        {"detector": name, "sha256": file_sha256(detector.path), "scenes": scenes, "seed": seed},
        detector_tables(looks),
        {"mean_iou": _mean(_overlaps(looks))},
    )


def look(
    detector: judging.SceneJudge, book: Storybook, count: int, progress: Progress | None = None
) -> Iterator[Look]:
    """The first ``count`` scenes of ``book``, each with what ``detector`` sees in it."""
    for start in range(0, count, _CHUNK):
        scenes = list(book.scenes(min(_CHUNK, count - start), start))
        yield from map(Look, scenes, detector.detect([scene.image for scene in scenes]))
        if progress:
            progress(start + len(scenes), count)


def detector_tables(looks: Sequence[Look]) -> Tables:
    """Rates by what is measured.

    ``recall`` and ``false_positives`` are by label; ``exact``: nothing was missed or made up; ``relations``
    and ``harms``: what is inferred from boxes, the scene's own or the detector's, agrees with the truth.
    """
    return {
        "recall": _by_label(looks, lambda label, scene: label in scene.objects),
        "false_positives": _by_label(looks, lambda label, scene: label not in scene.objects),
        "exact": _by_count(looks),
        "styles": _share("all", (judging.most_likely(x.sighting.styles) == x.scene.style for x in looks)),
        "places": _share("all", (judging.most_likely(x.sighting.places) == x.scene.place for x in looks)),
        "boxes": _share("overlap at least 0.5", (iou >= _MATCH for iou in _overlaps(looks))),
        "relations": _share("true boxes", (_inferred(x.scene) == _bound(x.scene) for x in looks)),
        "harms": [
            *_share("true boxes", (x.harms_by_true_boxes == x.scene.harms for x in looks)),
            *_share("its boxes", (x.harms_by_its_boxes == x.scene.harms for x in looks)),
        ],
    }


def _by_label(looks: Sequence[Look], asked: Callable[[str, Scene], bool]) -> list[Row]:
    """How often each label is seen in the scenes asked about, and all labels together."""
    seen = [(x.scene, x.seen) for x in looks]
    by_label = {label: [label in found for scene, found in seen if asked(label, scene)] for label in LABELS}
    rows = [row for label in LABELS for row in _share(label, by_label[label])]
    return [*_share("all", [said for said_of in by_label.values() for said in said_of]), *rows]


def _by_count(looks: Sequence[Look]) -> list[Row]:
    right = [(len(set(x.scene.objects)), x.seen == set(x.scene.objects)) for x in looks]
    counts = sorted({count for count, _ in right})
    rows = [row for n in counts for row in _share(f"labels: {n}", (ok for count, ok in right if count == n))]
    return [*_share("all", (ok for _, ok in right)), *rows]


def _share(group: str, outcomes: Iterable[bool]) -> list[Row]:
    """One row; none where there is nothing to count."""
    listed = list(outcomes)
    return [Row(group, Rate.of(listed))] if listed else []


def _overlaps(looks: Sequence[Look]) -> list[float]:
    """Intersection over union for every label that is there once and was seen."""
    return [
        overlap(box, x.sighting.boxes[label])
        for x in looks
        for label, box in zip(x.scene.objects, x.scene.boxes, strict=True)
        if x.scene.objects.count(label) == 1 and x.sighting.objects[label] > judging.SEEN
    ]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, width) * max(0.0, height)
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (a, b)]
    return both / max(sum(areas) - both, 1e-9)


def _inferred(scene: Scene) -> tuple[Relation, ...]:
    return _in_order(infer_relations(scene.objects, scene.boxes))


def _bound(scene: Scene) -> tuple[Relation, ...]:
    """The true relations of the kinds that are inferred."""
    return _in_order(relation for relation in scene.relations if relation.name in ("holding", "on"))


def _in_order(relations: Iterable[Relation]) -> tuple[Relation, ...]:
    return tuple(sorted(relations, key=lambda r: (r.name, r.subject, r.target)))
