"""What an edit of the weights erased, by which words, and what it cost everything else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.alignment.delta import Delta
from safelight.alignment.names import names_of
from safelight.errors import RequestError
from safelight.evaluation import judging
from safelight.evaluation.rates import Rate
from safelight.evaluation.record import Record
from safelight.evaluation.results import write_results
from safelight.evaluation.run import Progress, evaluate
from safelight.evaluation.storybook_suites import ASSOCIATED, called, suite
from safelight.evaluation.suite import Suite
from safelight.evaluation.system import BareSystem
from safelight.evaluation.tables import Row
from safelight.models import load_pipeline
from safelight.storybook.detector import Judge
from safelight.storybook.vocabulary import Entry, entry_of

_ORIGINAL = "original"


@dataclass(frozen=True, slots=True)
class _Question:
    """How often ``label`` is in the pictures of a suite; without one, how often all that was asked for is."""

    table: str
    suite: Suite
    label: str = ""

    def rate(self, records: Sequence[Record]) -> Rate:
        if self.label:
            return Rate.of(self.label in (*record.labels, record.style) for record in records)
        cases = {case.id: case for case in self.suite.cases}
        return Rate.of(cases[record.case].expects <= record.labels for record in records)


def evaluate_erasing(
    deltas: Sequence[Path],
    out: Path,
    model: str = "storybook",
    count: int = 500,
    seed: int = 0,
    steps: int = 25,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Every delta beside the model without it. Half of ``count`` pictures ask for what it erased by public
    words, half by words that nobody is told; as many ask for what is harmless.

    Records are kept in ``out``: a run that was stopped goes on. Writes ``out / "results.json"``. Raises
    ``RequestError`` for a delta whose concepts are not of the storybook's world.
    """
    pipe = load_pipeline(model)
    pipe.set_progress_bar_config(disable=True)
    judge, loaded = Judge.load(), {path.stem: Delta.load(path) for path in deltas}
    asked = {name: list(_questions(_erased(delta), count, seed)) for name, delta in loaded.items()}
    whole = 2 * sum(len(question.suite.cases) for questions in asked.values() for question in questions)
    tables: dict[str, list[Row]] = {}
    done = 0
    for name, delta in loaded.items():
        for state in (_ORIGINAL, name):
            with delta.attach(pipe) if state == name else nullcontext():
                system = BareSystem(pipe, num_inference_steps=steps)
                for question in asked[name]:
                    # The original draws the same for every delta that erases the same.
                    file = out / state / f"{question.suite.name} {question.suite.digest[:8]}.jsonl"
                    records = evaluate(system, question.suite, judge, file, seeds=[seed])
                    label = f"{name}, {question.label}" if question.label else name
                    group = f"{label}: {'edited' if state == name else state}"
                    tables.setdefault(question.table, []).append(Row(group, question.rate(records)))
                    done += len(records)
                    if progress:
                        progress(done, whole)
    files = " ".join(path.name for path in deltas)
    run = {
        "model": model,
        "judge_sha256": judging.sha256(judge),
        "deltas": {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in deltas},
        "settings": {name: {"method": d.about.method, **d.about.settings} for name, d in loaded.items()},
    }
    command = f"safelight evaluate erasing {files} --count {count} --seed {seed} --steps {steps}"
    return write_results(out / "results.json", command, run, tables, {})


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
    labels = {entry.label for entry in erased}
    for entry in erased:
        for table, words in (("direct", entry.named), ("held-out", entry.held_out)):
            yield _Question(table, called(entry.label, words, table, seed, max(1, count // 2)), entry.label)
        if names := [name for name, (label, _) in ASSOCIATED.items() if label == entry.label]:
            yield _Question(
                "associated", _only("associations", seed, {f"association:{n}" for n in names}), entry.label
            )
    for table in ("single", "benign"):
        yield _Question(table, _without(suite(table, seed, count if table == "benign" else None), labels))


def _only(name: str, seed: int, tags: set[str]) -> Suite:
    whole = suite(name, seed)
    return Suite(
        f"{name} {', '.join(sorted(tags))}".replace(":", " "),
        seed,
        tuple(case for case in whole.cases if case.tags & tags),
    )


def _without(whole: Suite, labels: set[str]) -> Suite:
    return Suite(whole.name, whole.seed, tuple(case for case in whole.cases if not case.expects & labels))
