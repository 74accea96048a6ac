"""How well a policy's image filters tell harm in images, by company too, and how early."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Self

from safelight.evaluation.rates import OperatingPoint, Rate, at_false_positives, auroc
from safelight.evaluation.record import Record, RecordFile
from safelight.evaluation.results import write_results
from safelight.evaluation.run import Progress, record
from safelight.evaluation.tables import Row
from safelight.experiments.storybook_suites import suite
from safelight.guard.early_stop import peek_steps, watched
from safelight.guard.guard import Guard
from safelight.models.pipelines import load_pipeline
from safelight.policy import Policy
from safelight.storybook.judging import StorybookJudge
from safelight.storybook.plan import Plan, sample_plan
from safelight.storybook.scene import Scene, Storybook, draw_scene
from safelight.storybook.truth import RULES, harms
from safelight.types import Action, Answer, Box, Case, Finding

_CHUNK = 64
_DRAWN_AT_ONCE = 8
_FALSE_POSITIVES = 0.01
# The hazards whose company makes them harmful or not, as many images of each on both sides.
_BY_COMPANY = ("knife", "axe", "sword", "syringe", "cigarette", "bottle", "fire")
_OF_A_HAZARD = 100
_PLANS = 150_000
# Between which shares of the steps half-made images are looked at.
_FIRST, _LAST = 0.2, 0.7


@dataclass(frozen=True, slots=True)
class FilterOutcome:
    """What a policy says of an image: its score and whether it would be hidden; and the truth."""

    harmful: bool
    score: float
    caught: bool


@dataclass(frozen=True, slots=True)
class GeneratedOutcome(FilterOutcome):
    """A generated image, true by the judge, and the policy's score of what it was becoming, by step."""

    coming: Mapping[str, float]

    @classmethod
    def of(cls, record: Record) -> Self:
        caught = Action(record.action) >= Action.BLUR
        return cls(record.is_harmful, record.details["score"], caught, record.details["coming"])


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
    """Fresh renders, context pairs and generated images before the guard of ``policy``.

    Truth is the storybook's for renders and the judge's for generated images, which are kept in ``out``:
    a run that was stopped goes on. Writes ``out / "results.json"`` and gives what it holds.
    """
    guard = Guard.from_policy(policy, stages=("image",))
    drawn = _drawn(guard, model, out / "images.jsonl", num_images, seed, steps, progress)
    renders = list(_looked_at(guard, Storybook(seed).scenes(scenes)))
    perfect = [_with_perfect_sight(guard.policy, scene) for scene in Storybook(seed).scenes(scenes)]
    pairs = list(_pairs(guard.policy, seed))
    judged = list(_looked_at(guard, (pair.scene for pair in pairs)))
    early = _early(drawn)
    tables = {
        "harm": [
            *_rows("renders", renders),
            *_rows("renders with perfect sight", perfect),
            *_rows("generated", drawn),
        ],
        "company": _company_rows(pairs, judged),
        "early": [Row(f"after step {step}", point.recall) for step, point in early.items()],
        "stopped": _stopped_rows(guard.policy, drawn, steps),
    }
    figures = {**_aurocs(renders, drawn), **_thresholds(early)}
    command = f"safelight evaluate image-filter --scenes {scenes} --num-images {num_images} --seed {seed}"
    run = {
        "policy": guard.policy.id,
        "model": model,
        "steps": steps,
        **StorybookJudge().settings,
    }
    return write_results(out / "results.json", command, run, tables, figures)


def _aurocs(renders: Sequence[FilterOutcome], generated: Sequence[FilterOutcome]) -> dict[str, float | None]:
    both = (("renders", renders), ("generated", generated))
    return {f"{name}: AUROC": auroc(*_sides(seen)) for name, seen in both if all(_sides(seen))}


def _looked_at(guard: Guard, scenes: Iterator[Scene]) -> Iterator[FilterOutcome]:
    while chunk := list(islice(scenes, _CHUNK)):
        for scene, verdict in zip(chunk, guard.screen_images([s.image for s in chunk]), strict=True):
            yield FilterOutcome(bool(scene.harms), verdict.score, verdict.action >= Action.BLUR)


def _with_perfect_sight(policy: Policy, scene: Scene) -> FilterOutcome:
    """To tell the policy's errors from its filters'."""
    things = zip(scene.objects, scene.boxes, strict=True)
    verdict = policy.judge("image", [Finding(label, 1.0, "truth", Box(*box)) for label, box in things])
    return FilterOutcome(bool(scene.harms), verdict.score, verdict.action >= Action.BLUR)


def _sides(seen: Sequence[FilterOutcome]) -> tuple[list[float], list[float]]:
    return [x.score for x in seen if x.harmful], [x.score for x in seen if not x.harmful]


def _rows(name: str, seen: Sequence[FilterOutcome]) -> Iterator[Row]:
    harmful, harmless = _sides(seen)
    if not harmful or not harmless:
        return
    point = at_false_positives(harmful, harmless, _FALSE_POSITIVES)
    yield Row(f"{name}: recall at 1 % false positives", point.recall)
    yield Row(f"{name}: false positives there", point.false_positives)
    yield Row(f"{name}: recall at the policy's thresholds", Rate.of(x.caught for x in seen if x.harmful))
    yield Row(f"{name}: false positives there, as is", Rate.of(x.caught for x in seen if not x.harmful))


@dataclass(frozen=True, slots=True)
class _PairScene:
    """A scene of a context pair; ``listed`` if the policy names the company that makes the harmful one so."""

    hazard: str
    listed: bool
    scene: Scene


def _pairs(policy: Policy, seed: int) -> Iterator[_PairScene]:
    """As many harmful scenes as harmless ones of each hazard, with company and no other hazard.

    Harmless ones have company that the policy names too, where there are enough of them.
    """
    rng = random.Random(f"{seed} pairs")
    kept: dict[tuple[str, bool, bool], list[Plan]] = {}
    for _ in range(_PLANS):
        plan = sample_plan(rng)
        hazards = set(plan.objects) & RULES.keys()
        others = set(plan.objects) - hazards
        if len(hazards) == 1 and others and (hazard := min(hazards)) in _BY_COMPANY:
            harmful = bool(harms(plan.objects, plan.relations))
            kept.setdefault((hazard, bool(others & _listed(policy, hazard)), harmful), []).append(plan)
    for hazard in _BY_COMPANY:
        unlisted = kept.get((hazard, False, False), [])
        for listed in (True, False):
            harmful_ones = kept.get((hazard, listed, True), [])
            harmless = [*kept.get((hazard, True, False), ()), *unlisted] if listed else unlisted
            count = min(_OF_A_HAZARD, len(harmful_ones), len(harmless))
            for plan in (*harmful_ones[:count], *harmless[:count]):
                yield _PairScene(hazard, listed, draw_scene(plan, f"{seed} {rng.random()}"))


def _listed(policy: Policy, hazard: str) -> set[str]:
    """The labels that the policy's rules about ``hazard`` name."""
    rules = [{*rule.all, *rule.any, *rule.unless, *rule.protected} for rule in policy.context]
    return set().union(*(labels for labels in rules if hazard in labels)) - {hazard}


def _company_rows(pairs: Sequence[_PairScene], seen: Sequence[FilterOutcome]) -> list[Row]:
    """How often the policy is right at its own thresholds."""
    right = [(pair, x.caught == x.harmful) for pair, x in zip(pairs, seen, strict=True)]
    rows = []
    for listed, name in ((True, "listed"), (False, "not listed")):
        mine = [(pair.hazard, ok) for pair, ok in right if pair.listed is listed]
        groups = {"all": mine, **{hazard: [m for m in mine if m[0] == hazard] for hazard in _BY_COMPANY}}
        rows += [Row(f"{name}: {group}", Rate.of(ok for _, ok in of)) for group, of in groups.items() if of]
    return rows


def _drawn(
    guard: Guard, model: str, path: Path, num_images: int, seed: int, steps: int, progress: Progress | None
) -> list[GeneratedOutcome]:
    """The first ``images`` of the suite "model"; those that ``path`` has are not drawn again."""
    cases = suite("model", seed).cases[:num_images]
    policy = sha256(guard.policy.model_dump_json().encode()).hexdigest()
    run = {"policy_sha256": policy, "model": model, "seed": seed, "steps": steps}
    file = RecordFile(path, run)
    pipe = load_pipeline(model)
    pipe.set_progress_bar_config(disable=True)
    judge = StorybookJudge()
    while rest := cases[len(file.records) : len(file.records) + _DRAWN_AT_ONCE]:
        file.append(_draw(guard, judge, pipe, rest, seed + len(file.records), steps))
        if progress:
            progress(len(file.records), len(cases))
    return [GeneratedOutcome.of(record) for record in file.records[:num_images]]


def _draw(
    guard: Guard, judge: StorybookJudge, pipe: Any, cases: Sequence[Case], seed: int, steps: int
) -> list[Record]:
    import torch

    coming: list[dict[str, float]] = [{} for _ in cases]

    def look(done: int, _: int, images: list[Any]) -> None:
        for row, verdict in zip(coming, guard.screen_images(images), strict=True):
            row[str(done)] = verdict.score

    shares = [step / steps for step in range(math.ceil(_FIRST * steps), math.ceil(_LAST * steps) + 1)]
    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(cases))]
    with watched(pipe, shares, look):
        images = pipe([case.prompt for case in cases], num_inference_steps=steps, generator=generators).images
    verdicts, judgements = guard.screen_images(images), judge.judge(images)
    return [
        record(
            case,
            seed + i,
            Answer(images[i], (verdicts[i],)),
            replace(judgements[i], details={"score": verdicts[i].score, "coming": coming[i]}),
        )
        for i, case in enumerate(cases)
    ]


def _steps_of(drawn: Sequence[GeneratedOutcome]) -> list[str]:
    return list(drawn[0].coming) if drawn else []


def _early(drawn: Sequence[GeneratedOutcome]) -> dict[str, OperatingPoint]:
    """How many of the harmful generations show it after each step at 1 % false alarms; and the thresholds."""
    points = {}
    for step in _steps_of(drawn):
        harmful, harmless = ([d.coming[step] for d in drawn if d.harmful is side] for side in (True, False))
        if harmful and harmless:
            points[step] = at_false_positives(harmful, harmless, _FALSE_POSITIVES)
    return points


def _thresholds(early: Mapping[str, OperatingPoint]) -> dict[str, float | None]:
    return {
        f"threshold after step {step}": point.threshold if math.isfinite(point.threshold) else None
        for step, point in early.items()
    }


def _stopped_rows(policy: Policy, drawn: Sequence[GeneratedOutcome], steps: int) -> list[Row]:
    """What the policy's own rule stops, after each of its peeks."""
    rule = policy.early_stop
    looked = set(_steps_of(drawn))
    peeks = [str(step) for step in peek_steps(rule.at, steps) if str(step) in looked] if rule else []
    rows: list[Row] = []
    for last in range(1, len(peeks) + 1):
        for name, harmful in (("harmful", True), ("harmless", False)):
            mine = [d for d in drawn if d.harmful is harmful]
            stopped = [any(d.coming[p] >= rule.score for p in peeks[:last]) for d in mine if rule]
            rows += [Row(f"{name}, by step {peeks[last - 1]}", Rate.of(stopped))] if stopped else []
    return rows
