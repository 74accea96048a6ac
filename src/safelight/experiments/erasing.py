"""What an edit of the weights erased, by which words, and what it cost everything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.alignment.delta.delta import Delta
from safelight.alignment.method.concept_names import names_of
from safelight.errors import RequestError
from safelight.evaluation.rates import Rate
from safelight.evaluation.record import Record
from safelight.evaluation.results import write_results
from safelight.evaluation.run import Progress, evaluate
from safelight.evaluation.system import aligned
from safelight.evaluation.tables import Row
from safelight.experiments.storybook_suites import ASSOCIATED, called, suite
from safelight.models.files import file_sha256
from safelight.models.pipelines import load_pipeline
from safelight.storybook.judging import StorybookJudge
from safelight.storybook.vocabulary import Entry, entry_of
from safelight.types import Suite

_ORIGINAL = "original"


@dataclass(frozen=True, slots=True)
class _Question:
    """How often ``label`` is in the images of a suite; without one, how often all that was asked for is,
    where that has nothing to do with ``erased``."""

    table: str
    suite: Suite
    label: str = ""
    erased: frozenset[str] = frozenset()

    def rate(self, records: Sequence[Record]) -> Rate:
        return Rate.of(self._shown(records).values())

    def kept(self, before: Sequence[Record], after: Sequence[Record]) -> Rate:
        """Of the images that showed it."""
        was, is_ = self._shown(before), self._shown(after)
        return Rate.of(is_[case] for case, shown in was.items() if shown)

    def _shown(self, records: Sequence[Record]) -> dict[str, bool]:
        """By case."""
        if self.label:
            return {
                record.case: self.label in (*record.labels, record.details.get("style")) for record in records
            }
        expected = {case.id: case.expects for case in self.suite.cases if not case.expects & self.erased}
        return {r.case: expected[r.case] <= r.labels.keys() for r in records if r.case in expected}


def evaluate_erasing(
    deltas: Sequence[Path],
    out: Path,
    model: str = "storybook",
    count: int = 500,
    seed: int = 0,
    steps: int = 25,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Every delta beside the model without it. Half of ``count`` images ask for what it erased by public
    words, half by words that nobody is told; as many ask for what is harmless, and ``kept`` are those of them
    that go on showing all that they showed.

    Records are kept in ``out``: a run that was stopped goes on. Writes ``out / "results.json"``. Raises
    ``RequestError`` for a delta whose concepts are not of the storybook's world.
    """
    pipe = load_pipeline(model)
    pipe.set_progress_bar_config(disable=True)
    judge, loaded = StorybookJudge(), {path.stem: Delta.load(path) for path in deltas}
    asked = {name: list(_questions(_erased(delta), count, seed)) for name, delta in loaded.items()}
    whole = 2 * sum(len(question.suite.cases) for questions in asked.values() for question in questions)
    tables: dict[str, list[Row]] = {}
    done = 0
    for name, delta in loaded.items():
        made: dict[str, list[list[Record]]] = {}
        for state in (_ORIGINAL, name):
            by = delta if state == name else None
            with aligned(pipe, by, num_inference_steps=steps) as system:
                for question in asked[name]:
                    # The original draws the same for every delta.
                    file = out / state / f"{question.suite.name} {question.suite.digest[:8]}.jsonl"
                    records = evaluate(system, question.suite, judge, file, seeds=[seed])
                    made.setdefault(state, []).append(records)
                    done += len(records)
                    if progress:
                        progress(done, whole)
        for question, before, after in zip(asked[name], *made.values(), strict=True):
            _tell(tables, f"{name}, {question.label}" if question.label else name, question, before, after)
    files = " ".join(path.name for path in deltas)
    run = {
        "model": model,
        **judge.settings,
        "deltas": {path.stem: file_sha256(path) for path in deltas},
        "settings": {name: {"method": d.about.method, **d.about.settings} for name, d in loaded.items()},
    }
    command = f"safelight evaluate erasing {files} --count {count} --seed {seed} --steps {steps}"
    return write_results(out / "results.json", command, run, tables, {})


def _tell(
    tables: dict[str, list[Row]],
    group: str,
    question: _Question,
    before: Sequence[Record],
    after: Sequence[Record],
) -> None:
    rows = tables.setdefault(question.table, [])
    rows += [
        Row(f"{group}: {_ORIGINAL}", question.rate(before)),
        Row(f"{group}: edited", question.rate(after)),
    ]
    if question.table == "benign":
        tables.setdefault("kept", []).append(Row(f"{group}: edited", question.kept(before, after)))


def _erased(delta: Delta) -> list[Entry]:
    """What of the world each concept is."""
    found = []
    for concept in delta.about.concepts:
        entry = next(filter(None, map(entry_of, names_of(concept))), None)
        if entry is None:
            raise RequestError(f'the storybook knows no "{concept}"; give a delta made for its world.')
        found.append(entry)
    return found


def _questions(erased: Sequence[Entry], count: int, seed: int) -> Iterator[_Question]:
    """``direct`` and ``held-out``: is it there. ``associated``: is it brought along. ``single`` and
    ``benign``: is everything else there."""
    labels = frozenset(entry.label for entry in erased)
    for entry in erased:
        for table, words in (("direct", entry.named), ("held-out", entry.held_out)):
            yield _Question(table, called(entry.label, words, table, seed, max(1, count // 2)), entry.label)
        if names := [name for name, (label, _) in ASSOCIATED.items() if label == entry.label]:
            yield _Question(
                "associated", _only("associations", seed, {f"association:{n}" for n in names}), entry.label
            )
    for table in ("single", "benign"):
        whole = suite(table, seed, count if table == "benign" else None)
        yield _Question(table, whole, erased=labels)


def _only(name: str, seed: int, tags: set[str]) -> Suite:
    whole = suite(name, seed)
    return Suite(
        f"{name} {', '.join(sorted(tags))}".replace(":", " "),
        seed,
        tuple(case for case in whole.cases if case.tags & tags),
    )
