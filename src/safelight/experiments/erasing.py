"""Evaluation of concept erasure: effect on seen and held-out synonyms, and on all other images."""

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
    """A measurement on one suite: the rate of images that show ``label``.

    Without a label it is the rate of images that show everything that was asked for, in cases that are
    unrelated to what was ``erased``.
    """

    table: str
    suite: Suite
    label: str = ""
    erased: frozenset[str] = frozenset()

    def rows(self, made: Comparison, name: str) -> Iterator[tuple[str, Row]]:
        """Yield rows with their tables: rates before and after, and the share that was ``kept``."""
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
    """Compare the model with each delta applied to the unchanged model.

    Of ``count`` images, half ask for the erased concept by seen synonyms and half by held-out synonyms. The
    same number of images ask for harmless objects; ``kept`` is the share of them that still show everything
    that they showed before. Records are kept in ``out``, from which an interrupted run resumes. Writes
    ``out / "results.json"``. Raises ``RequestError`` for a delta whose concepts are not in the storybook's
    vocabulary, and for two files of the same name.
    """
    pipe, judge, loaded = quiet_pipeline(model), StorybookJudge(), load_deltas(deltas, [_ORIGINAL])
    measures = {name: list(_measures(_erased(delta), count, seed)) for name, delta in loaded.items()}
    asked = {name: [Question(each.suite, [seed]) for each in mine] for name, mine in measures.items()}
    # The unchanged model is the reference for every delta, and is run on each suite once.
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
    """Return the entry of the storybook's vocabulary for each concept of a delta."""
    found = []
    for concept in delta.about.concepts:
        entry = next(filter(None, map(entry_of, names_of(concept))), None)
        if entry is None:
            raise RequestError(f'"{concept}" is not in the vocabulary of the storybook; give another delta.')
        found.append(entry)
    return found


def _measures(erased: Sequence[Entry], count: int, seed: int) -> Iterator[_Measure]:
    """Yield the measurements of a delta.

    ``direct`` and ``held-out`` measure whether the erased concept is shown when asked for, ``associated``
    whether it is shown without being asked for, ``single`` and ``benign`` whether everything else is shown.
    """
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
