"""Several systems asked the same suites, side by side, and the rates of their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from safelight.evaluation.rates import Rate
from safelight.evaluation.record import Record
from safelight.evaluation.run import Progress, by_case, counting, evaluate
from safelight.evaluation.tables import JudgedCase, Row, distance
from safelight.protocols import Judge, System
from safelight.types import Case, Suite

Count = Callable[[Case, Record], bool]
"""Whether the answer to a case counts."""


@dataclass(frozen=True, slots=True)
class Question:
    """A suite and the seeds under which each of its cases is asked."""

    suite: Suite
    seeds: Sequence[int] = (0,)

    def __len__(self) -> int:
        return len(self.suite.cases) * len(self.seeds)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A system of a comparison: ``opened`` gives it for as long as it is asked its questions."""

    name: str
    opened: Callable[[], AbstractContextManager[System]]
    questions: Sequence[Question]


def built(system: System) -> Callable[[], AbstractContextManager[System]]:
    """Return how a candidate opens a ``system`` that is there already."""
    return lambda: nullcontext(system)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answers of all systems, by the names of system and suite. The first system is the ``reference``."""

    answers: Mapping[tuple[str, str], Sequence[JudgedCase]]

    @property
    def systems(self) -> list[str]:
        return list(dict.fromkeys(system for system, _ in self.answers))

    @property
    def suites(self) -> list[str]:
        return list(dict.fromkeys(suite for _, suite in self.answers))

    @property
    def reference(self) -> str:
        return self.systems[0]

    def records(self, system: str, suite: str) -> list[Record]:
        return [record for _, record in self.answers.get((system, suite), ())]

    def rows(
        self, suite: str, counts: Count, *, among: Count | None = None, reference_suite: str | None = None
    ) -> list[Row]:
        """Return the rate of each system's answers to ``suite`` that count; a system without any has no row.

        With ``among``, only cases are counted whose answer by the reference system is so. The reference
        system may have answered the same cases as a suite of another name, ``reference_suite``.
        """
        rows = []
        for system in self.systems:
            if rate := self.rate(system, suite, counts, among=among, reference_suite=reference_suite):
                rows.append(Row(system, rate))
        return rows

    def rate(
        self,
        system: str,
        suite: str,
        counts: Count,
        *,
        among: Count | None = None,
        reference_suite: str | None = None,
    ) -> Rate | None:
        """Return one rate of ``rows``; None if nothing is to be counted."""
        judged = self.answers.get((system, suite), ())
        if among and judged:
            before = self.answers[self.reference, reference_suite or suite]
            judged = [now for was, now in zip(before, judged, strict=True) if among(*was)]
        return Rate.of(counts(*each) for each in judged) if judged else None

    def same_pixels(self, suite: str) -> list[Row]:
        """Return how often each system's image is the reference's, pixel for pixel."""
        before = self.records(self.reference, suite)
        pairs = {name: zip(before, self.records(name, suite), strict=True) for name in self.systems}
        return [Row(name, Rate.of(a.pixels == b.pixels for a, b in each)) for name, each in pairs.items()]

    def distances(self, suite: str) -> dict[str, float | None]:
        """Return how far each system's images are from the reference's (``tables.distance``)."""
        before = self.records(self.reference, suite)
        return {f"{name}: distance": distance(self.records(name, suite), before) for name in self.systems}


def compare(
    candidates: Iterable[Candidate], judge: Judge, out: Path, progress: Progress | None = None
) -> Comparison:
    """Ask every candidate its questions, one candidate after the other, and return all answers.

    Records are kept in ``out / <system> / <suite> <seed>.jsonl``: a run that was stopped goes on. Questions
    whose suites have the same name are counted together. Raises what ``evaluate`` raises.
    """
    candidates = list(candidates)
    whole = sum(len(question) for candidate in candidates for question in candidate.questions)
    answers: dict[tuple[str, str], list[JudgedCase]] = {}
    for candidate in candidates:
        with candidate.opened() as system:
            for question in candidate.questions:
                suite = question.suite
                file = out / candidate.name / f"{suite.name} {suite.seed}.jsonl"
                told = counting(progress, sum(map(len, answers.values())), whole)
                records = evaluate(system, suite, judge, file, seeds=question.seeds, progress=told)
                answers.setdefault((candidate.name, suite.name), []).extend(by_case(suite, records))
    return Comparison(answers)


def is_harmful(_: Case, record: Record) -> bool:
    """Return whether a harmful image was released."""
    return record.is_harmful


def was_released(_: Case, record: Record) -> bool:
    """Return whether any image was released."""
    return record.released
