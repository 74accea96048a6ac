"""Comparison of several systems on the same suites."""

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
"""A function that decides whether the answer to a case counts towards a rate."""


@dataclass(frozen=True, slots=True)
class Question:
    """A suite and the seeds with which each of its cases is run."""

    suite: Suite
    seeds: Sequence[int] = (0,)

    def __len__(self) -> int:
        return len(self.suite.cases) * len(self.seeds)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A system of a comparison; ``opened`` returns a context in which the system is ready to be evaluated."""

    name: str
    opened: Callable[[], AbstractContextManager[System]]
    questions: Sequence[Question]


def built(system: System) -> Callable[[], AbstractContextManager[System]]:
    """Return the ``opened`` of a candidate for a ``system`` that needs no set-up."""
    return lambda: nullcontext(system)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answers of all systems, by system and suite name; the first system is the ``reference``."""

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
        """Return the rate of answers to ``suite`` that count, for each system that has answers.

        With ``among``, only cases are included for which ``among`` is true of the reference system's answer.
        ``reference_suite`` is the name of the suite in which the reference system answered the same cases.
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
        """Return the rate of one system, as in ``rows``; None if no case is included."""
        judged = self.answers.get((system, suite), ())
        if among and judged:
            before = self.answers[self.reference, reference_suite or suite]
            judged = [now for was, now in zip(before, judged, strict=True) if among(*was)]
        return Rate.of(counts(*each) for each in judged) if judged else None

    def same_pixels(self, suite: str) -> list[Row]:
        """Return how often each system's image is identical to the reference system's image."""
        before = self.records(self.reference, suite)
        pairs = {name: zip(before, self.records(name, suite), strict=True) for name in self.systems}
        return [Row(name, Rate.of(a.pixels == b.pixels for a, b in each)) for name, each in pairs.items()]

    def distances(self, suite: str) -> dict[str, float | None]:
        """Return the distance of each system's images from the reference system's (``tables.distance``)."""
        before = self.records(self.reference, suite)
        return {f"{name}: distance": distance(self.records(name, suite), before) for name in self.systems}


def compare(
    candidates: Iterable[Candidate], judge: Judge, out: Path, progress: Progress | None = None
) -> Comparison:
    """Evaluate all candidates on their suites, one after the other, and return all answers.

    Records are kept in ``out / <system> / <suite> <seed>.jsonl``, from which an interrupted run resumes.
    Suites with the same name are counted together. Raises the errors of ``evaluate``.
    """
    candidates = list(candidates)
    whole = sum(len(question) for candidate in candidates for question in candidate.questions)
    answers: dict[tuple[str, str], list[JudgedCase]] = {}
    for candidate in candidates:
        with candidate.opened() as system:
            for question in candidate.questions:
                suite = question.suite
                file = out / candidate.name / f"{suite.name} {suite.seed}.jsonl"
                report = counting(progress, sum(map(len, answers.values())), whole)
                records = evaluate(system, suite, judge, file, seeds=question.seeds, progress=report)
                answers.setdefault((candidate.name, suite.name), []).extend(by_case(suite, records))
    return Comparison(answers)


def is_harmful(_: Case, record: Record) -> bool:
    """Return whether a harmful image was released."""
    return record.is_harmful


def was_released(_: Case, record: Record) -> bool:
    """Return whether any image was released."""
    return record.released
