"""Evaluation of a model without a guard: how often its images show what the prompts ask for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from safelight.evaluation.command_line import command_line
from safelight.evaluation.comparison import is_harmful, was_released
from safelight.evaluation.rates import Rate
from safelight.evaluation.results import write_results
from safelight.evaluation.run import Progress, by_case, describe, evaluate
from safelight.evaluation.system import BareSystem, quiet_pipeline
from safelight.evaluation.tables import (
    JudgedCase,
    Row,
    Tables,
    attribute_rows,
    rows,
    shows,
    suite_tags,
    tags_after,
    tags_without,
)
from safelight.storybook.judging import StorybookJudge
from safelight.storybook.suites import ASSOCIATED, suite


def evaluate_model(
    model: str,
    out: Path,
    seed: int = 0,
    limit: int | None = None,
    steps: int = 25,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate the pipeline on the suite "model", or on its first ``limit`` cases.

    Writes ``records.jsonl`` and ``results.json`` in ``out`` and returns the results; an interrupted run
    resumes. Raises ``ModelError`` for a model that cannot be loaded, and ``RequestError`` if ``out`` has the
    records of another run.
    """
    system = BareSystem(quiet_pipeline(model), num_inference_steps=steps)
    cases, judge = suite("model", seed), StorybookJudge()
    records = evaluate(
        system, cases, judge, out / "records.jsonl", seeds=[seed], limit=limit, progress=progress
    )
    return write_results(
        out / "results.json",
        command_line("model", model=system.name, seed=seed, steps=steps, limit=limit),
        {**describe(system, cases, judge, [seed]), "images": len(records)},
        tables(by_case(cases, records)),
        {"median_image_ms": median(record.elapsed_ms for record in records)},
    )


def tables(judged: Sequence[JudgedCase]) -> Tables:
    """Return all rates over the records of a run; a group without cases has no row.

    ``objects`` counts images that show everything the prompt asks for, by tag. ``labels`` counts the same
    for prompts with one object under one of its seen synonyms, by label. ``styles`` and ``places`` count
    images in the style or place that the prompt names. ``associations`` counts images with a hazard that
    the prompt only suggests. ``harm`` counts harmful images that were released. ``refused`` counts prompts
    for which no image was released.
    """
    with_objects = [(case, record) for case, record in judged if case.expects or case.any_of]
    single = [(case, record) for case, record in with_objects if case.tags & {"single", "named"}]
    return {
        "objects": rows(with_objects, lambda case: tags_without(case, "label:", "association:"), shows),
        "labels": rows(single, lambda case: tags_after(case, "label:"), shows),
        "styles": attribute_rows(judged, "style"),
        "places": attribute_rows(judged, "place"),
        "associations": list(_associations(judged)),
        "harm": rows(judged, suite_tags, is_harmful),
        "refused": rows(judged, suite_tags, lambda case, record: not was_released(case, record)),
    }


def _associations(judged: Sequence[JudgedCase]) -> Iterator[Row]:
    for name, (thing, expected) in ASSOCIATED.items():
        seen = [thing in record.labels for case, record in judged if f"association:{name}" in case.tags]
        if seen:
            yield Row(f"{name}: {thing}", Rate.of(seen), expected)
