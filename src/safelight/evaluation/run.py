"""The evaluation loop: runs a system on a suite, judges the images, and writes a record for each."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from PIL.Image import Image

from safelight.concurrency.workers import begin_worker
from safelight.errors import ModelError, RequestError
from safelight.evaluation.judge import judged
from safelight.evaluation.record import Record, RecordFile
from safelight.evaluation.system import BATCH
from safelight.protocols import Judge, System
from safelight.types import Answer, Case, Judgement, Suite, severest_action

Progress = Callable[[int, int], None]
"""A function that is called with the number of records done and their total number."""

Job = tuple[Case, int]
Measure = Callable[[Sequence[str], Sequence[Image]], Sequence[Mapping[str, Any]]]
"""A function that returns details for each pair of a prompt and its image."""

Build = Callable[[], tuple[System, Judge, Measure | None]]


def evaluate(
    system: System,
    suite: Suite,
    judge: Judge,
    out: Path,
    *,
    seeds: Sequence[int] = (0,),
    limit: int | None = None,
    progress: Progress | None = None,
    measure: Measure | None = None,
    build: Build | None = None,
    processes: int = 1,
) -> list[Record]:
    """Run ``system`` on the first ``limit`` cases of ``suite`` with each seed, and return the records.

    Records are appended to the file ``out`` after each batch, from which an interrupted run, or a run with a
    higher limit, resumes. ``measure`` adds details to the records of released images. With several
    ``processes``, each builds its own system, judge and measure with ``build``, a function that can be
    pickled. Raises ``RequestError`` if ``out`` has records of another system, suite or judge, or of other
    seeds, and ``ModelError`` if the system or the judge does not return one result for each item.
    """
    if limit is not None and limit < 1:
        raise RequestError(f"limit is {limit}; it is a number of prompts, at least 1.")
    file = RecordFile(out, describe(system, suite, judge, seeds))
    wanted = {(case.id, image_seed(seed, case)): case for seed in seeds for case in suite.cases[:limit]}
    done = {(record.case, record.seed): record for record in file.records}
    jobs = [(case, seed) for (id_, seed), case in wanted.items() if (id_, seed) not in done]
    for records in _asked(system, judge, list(_batches(jobs)), measure, build, processes):
        file.append(records)
        done |= {(record.case, record.seed): record for record in records}
        if progress:
            progress(len(wanted.keys() & done.keys()), len(wanted))
    return [done[key] for key in wanted]


def counting(progress: Progress | None, before: int, whole: int) -> Progress | None:
    """Return a progress function for one of several runs, which reports the progress of all of them.

    ``before`` is the number of records of earlier runs, and ``whole`` that of all runs.
    """
    return None if progress is None else lambda done, _: progress(before + done, whole)


def describe(system: System, suite: Suite, judge: Judge, seeds: Sequence[int]) -> dict[str, Any]:
    """Return the settings that must be equal for the records of two runs to be in one file."""
    return {
        "system": system.name,
        **system.settings,
        "suite": suite.name,
        "suite_seed": suite.seed,
        "suite_sha256": suite.digest,
        "seeds": list(seeds),
        **judge.settings,
    }


def image_seed(seed: int, case: Case) -> int:
    """Return the seed of the image of ``case`` in the run with this ``seed``.

    ``seed`` is added to the seed of a case that was published with one. Every other case has a seed derived
    from its id, which stays the same when cases are added or removed.
    """
    if case.seed is not None:
        return case.seed + seed
    return int.from_bytes(hashlib.sha256(f"{seed} {case.id}".encode()).digest()[:4])


def _asked(
    system: System,
    judge: Judge,
    batches: Sequence[Sequence[Job]],
    measure: Measure | None,
    build: Build | None,
    processes: int,
) -> Iterator[list[Record]]:
    if build and min(processes, len(batches)) > 1:
        return _in_processes(build, batches, min(processes, len(batches)))
    return (ask(system, judge, batch, measure) for batch in batches)


def _batches(jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
    """Yield batches of jobs whose cases have the same guidance scale."""
    for _, alike in groupby(jobs, lambda job: job[0].guidance_scale):
        mine = list(alike)
        yield from (mine[start : start + BATCH] for start in range(0, len(mine), BATCH))


def ask(system: System, judge: Judge, jobs: Sequence[Job], measure: Measure | None = None) -> list[Record]:
    """Generate and judge one batch, and return a record for each pair of a case and an image seed."""
    if (guidance_scale := jobs[0][0].guidance_scale) is not None:
        system = system.with_arguments(guidance_scale=guidance_scale)
    started = time.perf_counter()
    answers = system.answer([case.prompt for case, _ in jobs], [seed for _, seed in jobs])
    elapsed_ms = (time.perf_counter() - started) * 1000 / len(jobs)
    if len(answers) != len(jobs):
        raise ModelError(f'the system "{system.name}" gave {len(answers)} answers to {len(jobs)} prompts.')
    released = [(i, answer.image) for i, answer in enumerate(answers) if answer.image]
    images = [image for _, image in released]
    judgements = dict(zip((i for i, _ in released), judged(judge, images), strict=True))
    if measure and images:
        more = measure([jobs[i][0].prompt for i, _ in released], images)
        for (i, _), details in zip(released, more, strict=True):
            judgements[i] = replace(judgements[i], details={**judgements[i].details, **details})
    return [
        record(case, seed, answers[i], judgements.get(i, Judgement()), elapsed_ms)
        for i, (case, seed) in enumerate(jobs)
    ]


def _in_processes(build: Build, batches: Sequence[Sequence[Job]], processes: int) -> Iterator[list[Record]]:
    """Yield the records of each batch as it is completed by one of several processes."""
    context = get_context("spawn")
    with ProcessPoolExecutor(processes, context, _begin, (build,)) as pool:
        futures = [pool.submit(_ask, batch) for batch in batches]
        try:
            for each in as_completed(futures):
                yield each.result()
        finally:
            pool.shutdown(cancel_futures=True)


# The system, judge and measure of a worker process of ``_in_processes``.
_own: list[tuple[System, Judge, Measure | None]] = []


def _begin(build: Build) -> None:
    begin_worker()
    _own.append(build())


def _ask(jobs: Sequence[Job]) -> list[Record]:
    system, judge, measure = _own[-1]
    return ask(system, judge, jobs, measure)


def record(case: Case, seed: int, answer: Answer, judgement: Judgement, elapsed_ms: float = 0.0) -> Record:
    """Return the record of one answer; ``judgement`` is that of its image, and empty without an image."""
    pixels = hashlib.sha256(answer.image.tobytes()).hexdigest()[:16] if answer.image else ""
    return Record(
        case=case.id,
        prompt=case.prompt,
        seed=seed,
        action=severest_action(answer.verdicts).value,
        labels=dict(judgement.labels),
        harms=tuple(judgement.harms),
        pixels=pixels,
        elapsed_ms=round(elapsed_ms, 1),
        features=tuple(judgement.features),
        details={**answer.details, **judgement.details},
    )


def by_case(suite: Suite, records: Sequence[Record]) -> list[tuple[Case, Record]]:
    """Return each record with its case."""
    cases: Mapping[str, Case] = {case.id: case for case in suite.cases}
    return [(cases[record.case], record) for record in records]
