"""Evaluation of a policy's image filters: detection of harm, by context, and before the last step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from safelight.evaluation.command_line import command_line
from safelight.evaluation.rates import Rate
from safelight.evaluation.results import write_results
from safelight.evaluation.run import Progress, evaluate
from safelight.evaluation.screening_rates import (
    Outcome,
    aurocs,
    early_points,
    early_thresholds,
    harm_rows,
    stopped_rows,
)
from safelight.evaluation.system import quiet_pipeline
from safelight.evaluation.tables import Row
from safelight.evaluation.watched_system import WatchedSystem
from safelight.guard.guard import Guard
from safelight.policy import Policy
from safelight.storybook.context_pairs import CONTEXT_HAZARDS, ContextScene, context_pairs
from safelight.storybook.judging import StorybookJudge
from safelight.storybook.scene import Scene, Storybook
from safelight.storybook.suites import suite
from safelight.types import Box, Finding, Suite

_AT_ONCE = 64


def evaluate_image_filter(
    out: Path,
    policy: str = "storybook",
    model: str = "storybook",
    scenes: int = 5000,
    num_images: int = 2000,
    seed: int = 9000,
    steps: int = 25,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Screen new renders, context pairs and generated images with the guard of ``policy``.

    The ground truth is the storybook's for renders, and the judge's labels for generated images. Records of
    the latter are kept in ``out``, from which an interrupted run resumes. Writes ``out / "results.json"`` and
    returns its content.
    """
    guard, judge = Guard.from_policy(policy, stages=("image",)), StorybookJudge()
    system = WatchedSystem(guard, quiet_pipeline(model), steps)
    records = evaluate(
        system,
        _numbered(seed),
        judge,
        out / "images.jsonl",
        seeds=[seed],
        limit=num_images,
        progress=progress,
    )
    generated = [Outcome.of_record(record) for record in records]
    renders = list(_screened(guard, Storybook(seed).scenes(scenes)))
    perfect = [_with_perfect_sight(guard.policy, scene) for scene in Storybook(seed).scenes(scenes)]
    pairs = list(context_pairs(cache(lambda hazard: context_labels(guard.policy, hazard)), seed))
    early = early_points(generated)
    tables = {
        "harm": [
            *harm_rows("renders", renders),
            *harm_rows("renders with perfect sight", perfect),
            *harm_rows("generated", generated),
        ],
        "context": _context_rows(pairs, list(_screened(guard, (pair.scene for pair in pairs)))),
        "early": [Row(f"after step {step}", point.recall) for step, point in early.items()],
        "stopped": stopped_rows(guard.policy.early_stop, generated, steps),
    }
    return write_results(
        out / "results.json",
        command_line("image-filter", scenes=scenes, num_images=num_images, seed=seed),
        {"policy": guard.policy.id, "model": model, "steps": steps, **judge.settings},
        tables,
        {**aurocs({"renders": renders, "generated": generated}), **early_thresholds(early)},
    )


def _numbered(seed: int) -> Suite:
    """Return the suite "model" with consecutive seeds for its images."""
    whole = suite("model", seed)
    return replace(whole, cases=tuple(replace(case, seed=i) for i, case in enumerate(whole.cases)))


def _screened(guard: Guard, scenes: Iterable[Scene]) -> Iterator[Outcome]:
    scenes = iter(scenes)
    while chunk := list(islice(scenes, _AT_ONCE)):
        for scene, verdict in zip(chunk, guard.screen_images([s.image for s in chunk]), strict=True):
            yield Outcome.of(bool(scene.harms), verdict)


def _with_perfect_sight(policy: Policy, scene: Scene) -> Outcome:
    """Judge the true objects and boxes, to separate errors of the policy from errors of its filters."""
    things = zip(scene.objects, scene.boxes, strict=True)
    verdict = policy.judge("image", [Finding(label, 1.0, "truth", Box(*box)) for label, box in things])
    return Outcome.of(bool(scene.harms), verdict)


def context_labels(policy: Policy, hazard: str) -> set[str]:
    """Return the labels that the policy's context rules about ``hazard`` name."""
    rules = [{*rule.all, *rule.any, *rule.unless, *rule.protected} for rule in policy.context]
    return set().union(*(labels for labels in rules if hazard in labels)) - {hazard}


def _context_rows(pairs: Sequence[ContextScene], seen: Sequence[Outcome]) -> list[Row]:
    """Return how often the policy decides correctly at its own thresholds."""
    right = [(pair, x.caught == x.harmful) for pair, x in zip(pairs, seen, strict=True)]
    rows = []
    for listed, name in ((True, "listed"), (False, "not listed")):
        outcomes = [(pair.hazard, ok) for pair, ok in right if pair.listed is listed]
        groups = {
            "all": outcomes,
            **{hazard: [m for m in outcomes if m[0] == hazard] for hazard in CONTEXT_HAZARDS},
        }
        rows += [Row(f"{name}: {group}", Rate.of(ok for _, ok in of)) for group, of in groups.items() if of]
    return rows
