"""Runs: systems x prompts x seeds -> records, judged as they are made."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safelight.errors import ModelError, RequestError
from safelight.evaluation import judging
from safelight.evaluation.judging import SceneJudge
from safelight.evaluation.record import Record, RecordFile
from safelight.evaluation.suite import Case, Suite
from safelight.evaluation.system import BATCH
from safelight.protocols import System
from safelight.storybook.detector import Sighting
from safelight.types import Answer, severest

Progress = Callable[[int, int], None]


def evaluate(
    system: System,
    suite: Suite,
    judge: SceneJudge,
    out: Path,
    *,
    seeds: Sequence[int] = (0,),
    limit: int | None = None,
    progress: Progress | None = None,
) -> list[Record]:
    """Ask ``system`` the first ``limit`` cases of ``suite`` under each seed, and write ``out`` as it goes.

    What ``out`` already holds of this run is not asked again. ``progress`` is called with the number of
    records done and wanted. Raises ``RequestError`` if ``out`` holds another system, suite, seed or judge.
    """
    if limit is not None and limit < 1:
        raise RequestError(f"the limit is a number of prompts, at least 1, not {limit}.")
    file = RecordFile(out, describe(system, suite, judge, seeds), Record.from_dict)
    wanted = {(case.id, picture_seed(seed, case)): case for seed in seeds for case in suite.cases[:limit]}
    done = {(record.case, record.seed): record for record in file.records}
    todo = [(case, seed) for (id_, seed), case in wanted.items() if (id_, seed) not in done]
    for start in range(0, len(todo), BATCH):
        records = _judged(system, judge, todo[start : start + BATCH])
        file.append(records)
        done |= {(record.case, record.seed): record for record in records}
        if progress:
            progress(len(wanted.keys() & done.keys()), len(wanted))
    return [done[key] for key in wanted]


def describe(system: System, suite: Suite, judge: SceneJudge, seeds: Sequence[int]) -> dict[str, Any]:
    """All that must be the same in two runs for their records to stand in one file."""
    settings: Mapping[str, Any] = getattr(system, "settings", {})
    return {
        "system": system.name,
        **settings,
        "suite": suite.name,
        "suite_seed": suite.seed,
        "suite_sha256": suite.digest,
        "seeds": list(seeds),
        "judge_sha256": judging.sha256(judge),
    }


def picture_seed(seed: int, case: Case) -> int:
    """Every case has noise of its own, which stays when other cases come or go."""
    return int.from_bytes(hashlib.sha256(f"{seed} {case.id}".encode()).digest()[:4])


def _judged(system: System, judge: SceneJudge, jobs: Sequence[tuple[Case, int]]) -> list[Record]:
    started = time.perf_counter()
    answers = system.answer([case.prompt for case, _ in jobs], [seed for _, seed in jobs])
    elapsed_ms = (time.perf_counter() - started) * 1000 / len(jobs)
    if len(answers) != len(jobs):
        raise ModelError(f'the system "{system.name}" gave {len(answers)} answers to {len(jobs)} prompts.')
    images = [answer.image for answer in answers if answer.image]
    sightings = iter(judge.detect(images) if images else ())
    return [
        _record(case, seed, answer, next(sightings) if answer.image else None, elapsed_ms)
        for (case, seed), answer in zip(jobs, answers, strict=True)
    ]


def _record(case: Case, seed: int, answer: Answer, sighting: Sighting | None, elapsed_ms: float) -> Record:
    seen = judging.seen(sighting) if sighting else ()
    return Record(
        case=case.id,
        prompt=case.prompt,
        seed=seed,
        action=severest(answer.verdicts).value,
        seen=seen,
        style=judging.most_likely(sighting.styles) if sighting else None,
        place=judging.most_likely(sighting.places) if sighting else None,
        harms=judging.harms_of(seen),
        elapsed_ms=round(elapsed_ms, 1),
    )
