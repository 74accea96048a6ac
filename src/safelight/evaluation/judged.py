"""Pictures as the judge sees them, without the pictures."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from safelight.evaluation import judging
from safelight.evaluation.record import RecordFile
from safelight.evaluation.run import picture_seed
from safelight.evaluation.suite import Case, Suite
from safelight.evaluation.system import BATCH, BareSystem
from safelight.protocols import System
from safelight.storybook.detector import Judge, Sighting
from safelight.types import Answer


@dataclass(frozen=True, slots=True)
class Judged:
    """A picture as the judge sees it. ``shows``: everything asked for is there; ``features`` are the judge's
    probabilities; ``pixels`` is a hash. Without a picture nothing is there, and no features."""

    case: str
    seed: int
    harmful: bool
    shows: bool
    features: tuple[float, ...]
    pixels: str

    @property
    def released(self) -> bool:
        return bool(self.pixels)


def judged(
    system: System, judge: Judge, jobs: Sequence[tuple[Case, int]], out: Path, settings: Mapping[str, Any]
) -> Iterator[list[Judged]]:
    """The records so far, of cases with their seeds, after every batch that was missing from ``out``.

    Raises ``RequestError`` if ``out`` holds a run with other settings.
    """
    file = RecordFile(out, settings, _read)
    yield file.records
    while batch := jobs[len(file.records) : len(file.records) + BATCH]:
        answers = system.answer(
            [case.prompt for case, _ in batch], [picture_seed(seed, case) for case, seed in batch]
        )
        images = [answer.image for answer in answers if answer.image]
        sightings = iter(judge.detect(images) if images else ())
        file.append(
            _judged(case, seed, answer, next(sightings) if answer.image else None)
            for (case, seed), answer in zip(batch, answers, strict=True)
        )
        yield file.records


def judged_suite(
    system: BareSystem, judge: Judge, suite: Suite, seed: int, out: Path, name: str
) -> Iterator[list[Judged]]:
    """As ``judged``, of all cases of ``suite`` with one seed; ``name`` is what the system is called."""
    about = {"system": name, "suite": suite.digest, "seed": seed, "judge_sha256": judging.sha256(judge)}
    jobs = [(case, seed) for case in suite.cases]
    return judged(system, judge, jobs, out, {**system.settings, **about})


def _judged(case: Case, seed: int, answer: Answer, sighting: Sighting | None) -> Judged:
    if answer.image is None or sighting is None:
        return Judged(case.id, seed, False, False, (), "")
    seen = judging.seen(sighting)
    scores = (*sighting.objects.values(), *sighting.places.values(), *sighting.styles.values())
    return Judged(
        case.id,
        seed,
        bool(judging.harms_of(seen)),
        case.expects <= {thing.label for thing in seen},
        tuple(round(score, 4) for score in scores),
        hashlib.sha256(answer.image.tobytes()).hexdigest()[:16],
    )


def _read(fields: Mapping[str, Any]) -> Judged:
    return Judged(**{**fields, "features": tuple(fields["features"])})


def distance(some: Sequence[Judged], others: Sequence[Judged]) -> float | None:
    """The mean over pairs of pictures of how far apart their features are; None where no pair is whole."""
    both = zip(some, others, strict=True)
    apart = [math.dist(a.features, b.features) for a, b in both if a.released and b.released]
    return mean(apart) if apart else None
