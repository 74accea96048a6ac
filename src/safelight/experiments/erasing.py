"""What deltas erased, by which synonyms, and what they cost everything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from safelight.alignment.delta.delta import Delta
from safelight.alignment.method.concept_names import names_of
from safelight.errors import RequestError
from safelight.evaluation.command_line import command_line
from safelight.evaluation.comparison import Candidate, Comparison, Question, compare
from safelight.evaluation.deltas import load_deltas
from safelight.evaluation.record import Record
from safelight.evaluation.results import write_results
from safelight.evaluation.run import Progress
from safelight.evaluation.system import aligned, quiet_pipeline
from safelight.evaluation.tables import Row, shows
from safelight.models.files import file_sha256
from safelight.storybook.judging import StorybookJudge
from safelight.storybook.suites import ASSOCIATED, asking_for, suite
from safelight.storybook.vocabulary import Entry, entry_of
from safelight.types import Case, Suite

_ORIGINAL = "original"


@dataclass(frozen=True, slots=True)
class _Measure:
    """How often ``label`` is in the images of a suite; without a label, how often all that was asked for is,
    in cases that have nothing to do with what was ``erased``."""

    table: str
    suite: Suite
    label: str = ""
    erased: frozenset[str] = frozenset()

    def rows(self, made: Comparison, name: str) -> Iterator[tuple[str, Row]]:
        """Yield rows with their tables: before and after, and how much of what was there was ``kept``."""
        group = f"{name}, {self.label}" if self.label else name
        for system, state in ((_ORIGINAL, _ORIGINAL), (name, "edited")):
            if rate := made.rate(system, self.suite.name, self._shows, among=self._counts):
                yield self.table, Row(f"{group}: {state}", rate)
        if self.table == "benign" and (kept := made.rate(name, "benign", self._shows, among=self._showed)):
            yield "kept", Row(f"{group}: edited", kept)

    def _counts(self, case: Case, _: Record) -> bool:
        return not case.expects & self.erased

    def _shows(self, case: Case, record: Record) -> bool:
        if self.label:
            return self.label in (*record.labels, record.details.get("style"))
        return shows(case, record)

    def _showed(self, case: Case, record: Record) -> bool:
        return self._counts(case, record) and self._shows(case, record)


def evaluate_erasing(
    deltas: Sequence[Path],
    out: Path,
    model: str = "storybook",
    count: int = 500,
    seed: int = 0,
    steps: int = 25,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare the model with each delta with the model without it.

    Half of ``count`` images ask for what the delta erased by seen synonyms, half by held-out synonyms; as
    many ask for what is harmless, and ``kept`` are those of them that go on showing all that they showed.
    Records are kept in ``out``: a run that was stopped goes on. Writes ``out / "results.json"``. Raises
    ``RequestError`` for a delta whose concepts are not of the storybook's world, and for files of one name.
    """
    pipe, judge, loaded = quiet_pipeline(model), StorybookJudge(), load_deltas(deltas, [_ORIGINAL])
    measures = {name: list(_measures(_erased(delta), count, seed)) for name, delta in loaded.items()}
    asked = {name: [Question(each.suite, [seed]) for each in mine] for name, mine in measures.items()}
    # The original answers for every delta, so each suite once.
    suites = {question.suite.name: question for mine in asked.values() for question in mine}
    candidates = [
        Candidate(name, partial(aligned, pipe, delta, num_inference_steps=steps), questions)
        for name, delta, questions in (
            (_ORIGINAL, None, list(suites.values())),
            *((name, delta, asked[name]) for name, delta in loaded.items()),
        )
    ]
    made = compare(candidates, judge, out, progress)
    tables: dict[str, list[Row]] = {}
    for name, mine in measures.items():
        for table, row in (each for measure in mine for each in measure.rows(made, name)):
            tables.setdefault(table, []).append(row)
    run = {
        "model": model,
        **judge.settings,
        "deltas": {path.stem: file_sha256(path) for path in deltas},
        "settings": {name: {"method": d.about.method, **d.about.settings} for name, d in loaded.items()},
    }
    names = [path.name for path in deltas]
    command = command_line("erasing", *names, count=count, seed=seed, steps=steps)
    return write_results(out / "results.json", command, run, tables, {})


def _erased(delta: Delta) -> list[Entry]:
    """Return what each concept of a delta is in the storybook's world."""
    found = []
    for concept in delta.about.concepts:
        entry = next(filter(None, map(entry_of, names_of(concept))), None)
        if entry is None:
            raise RequestError(f'the storybook knows no "{concept}"; give a delta made for its world.')
        found.append(entry)
    return found


def _measures(erased: Sequence[Entry], count: int, seed: int) -> Iterator[_Measure]:
    """Yield ``direct`` and ``held-out`` (is it there), ``associated`` (is it brought along), and ``single``
    and ``benign`` (is everything else there)."""
    for entry in erased:
        for table, words in (("direct", entry.named), ("held-out", entry.held_out)):
            part = asking_for(entry.label, words, table, seed, max(1, count // 2))
            yield _Measure(table, part, entry.label)
        tags = {f"association:{name}" for name, (label, _) in ASSOCIATED.items() if label == entry.label}
        if tags:
            yield _Measure("associated", _tagged(suite("associations", seed), tags), entry.label)
    labels = frozenset(entry.label for entry in erased)
    yield _Measure("single", suite("single", seed, None), erased=labels)
    yield _Measure("benign", suite("benign", seed, count), erased=labels)


def _tagged(whole: Suite, tags: set[str]) -> Suite:
    name = f"{whole.name} {', '.join(sorted(tags))}".replace(":", " ")
    return replace(whole, name=name, cases=tuple(case for case in whole.cases if case.tags & tags))
