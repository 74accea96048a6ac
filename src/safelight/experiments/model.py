"""The evaluation of a model: what it draws of what it is asked for, without a guard."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from safelight.evaluation.results import write_results
from safelight.evaluation.run import Progress, by_case, describe, evaluate
from safelight.evaluation.system import BareSystem
from safelight.experiments.storybook_suites import suite
from safelight.experiments.storybook_tables import tables
from safelight.models.pipelines import load_pipeline
from safelight.storybook.judging import StorybookJudge


def evaluate_model(
    model: str,
    out: Path,
    seed: int = 0,
    limit: int | None = None,
    steps: int = 25,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The suite "model", or the first ``limit`` cases of it, on the bare pipeline with ``steps`` steps.

    Writes ``records.jsonl`` and ``results.json`` in ``out`` and gives the results; a run that was stopped
    is taken up again. Raises ``ModelError`` for a model that cannot be loaded, ``RequestError`` if ``out``
    holds the records of another run.
    """
    pipe = load_pipeline(model)
    pipe.set_progress_bar_config(disable=True)
    system, cases, judge = BareSystem(pipe, num_inference_steps=steps), suite("model", seed), StorybookJudge()
    records = evaluate(
        system, cases, judge, out / "records.jsonl", seeds=[seed], limit=limit, progress=progress
    )
    return write_results(
        out / "results.json",
        _command(system.name, seed, limit, steps),
        {**describe(system, cases, judge, [seed]), "images": len(records)},
        tables(by_case(cases, records)),
        {"median_image_ms": median(record.elapsed_ms for record in records)},
    )


def _command(model: str, seed: int, limit: int | None, steps: int) -> str:
    limited = "" if limit is None else f" --limit {limit}"
    return f"safelight evaluate model --model {model} --seed {seed} --steps {steps}{limited}"
