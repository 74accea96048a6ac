"""Evaluation of any model, with any defence, on custom prompts and with a custom judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from PIL.Image import Image

from safelight import registry
from safelight.alignment.delta.delta import Delta
from safelight.clip import load_clip
from safelight.errors import RequestError
from safelight.evaluation.judge import load_judge
from safelight.evaluation.rates import Rate
from safelight.evaluation.results import write_results
from safelight.evaluation.run import Measure, Progress, by_case, describe, evaluate
from safelight.evaluation.system import BareSystem, GuardedSystem, quiet_pipeline
from safelight.evaluation.tables import JudgedCase, Row, Tables, rows
from safelight.guard.guard import Guard
from safelight.models.files import file_sha256
from safelight.policy import Policy
from safelight.protocols import Attack, Guidance, Judge, System
from safelight.types import Case, Suite

_CLIP_SCORE = "clip_score"


@dataclass(frozen=True)
class Setup:
    """The names of a model, its defences and a judge, from which each process of an evaluation builds them.

    ``deltas`` are applied to the model in order. ``guidance`` is the name of a registered guidance, which
    steers away from ``concepts``, by default its own. With a ``policy``, a guard with this policy screens the
    calls. ``attack`` is the name of a registered attack, and ``clip`` that of the CLIP model that compares
    each image with its prompt; both may be empty. ``arguments`` are passed to each call of the pipeline.
    """

    model: str
    judge: str
    deltas: tuple[Path, ...] = ()
    guidance: str = ""
    concepts: tuple[str, ...] = ()
    policy: str = ""
    attack: str = ""
    clip: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> tuple[System, Judge, Measure | None]:
        """Return the system, the judge and the measure. Raises the errors of loading them."""
        guard = Guard.from_policy(self.policy) if self.policy else None
        guidance = self._guidance()
        if guard and guidance:
            _check_guided_once(guard.policy)
        judge = load_judge(self.judge, guard.policy if guard else None)
        pipe = quiet_pipeline(self.model)
        # Deltas and guidance stay attached: the pipeline is this system's own.
        for path in self.deltas:
            Delta.load(path).attach(pipe)
        if guard and guidance:
            guidance.attach(pipe)
        system = (
            GuardedSystem(guard, pipe, **self.arguments)
            if guard
            else BareSystem(pipe, guidance, **self.arguments)
        )
        system.settings = {**system.settings, **self._defences()}
        return self._attacked(system, judge), judge, _clip_score(self.clip) if self.clip else None

    def _attacked(self, system: System, judge: Judge) -> System:
        if not self.attack:
            return system
        attack: Attack = registry.build("attack", self.attack)
        return attack.against(system, judge)

    def _guidance(self) -> Guidance | None:
        if not self.guidance:
            if self.concepts:
                raise RequestError("concepts are what guidance steers away from; name a guidance as well.")
            return None
        concept = {"concept": list(self.concepts)} if self.concepts else {}
        guidance: Guidance = registry.build("guidance", self.guidance, **concept)
        return guidance

    def _defences(self) -> Mapping[str, Any]:
        deltas = {path.stem: file_sha256(path) for path in self.deltas}
        return {
            "deltas": deltas,
            "guidance": self.guidance,
            "concepts": list(self.concepts),
            "clip": self.clip,
        }


def _check_guided_once(policy: Policy) -> None:
    """Raise ``RequestError`` for a policy that guides images itself, as no image may be guided twice."""
    if policy.guidance and policy.guidance.names:
        raise RequestError(
            f'the policy "{policy.name}" guides images itself; write the guidance into its [guidance] table '
            "instead of giving it as an option."
        )


def evaluate_prompts(
    setup: Setup,
    suite: Suite,
    out: Path,
    *,
    seeds: int = 1,
    command: str = "",
    processes: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run the system of ``setup`` on ``suite`` with ``seeds`` images per case, and return the rates.

    The tables are ``harmful`` (rate of released harmful images, which is the attack success rate under an
    attack), ``refused`` (rate of prompts without a released image), both by category, and ``labels`` (labels
    that made images harmful). Writes ``records.jsonl`` and ``results.json`` in ``out``; an interrupted run
    resumes. Raises the errors of ``Setup.build`` and ``evaluate``.
    """
    system, judge, measure = setup.build()
    numbers = range(seeds)
    records = evaluate(
        system,
        suite,
        judge,
        out / "records.jsonl",
        seeds=numbers,
        progress=progress,
        measure=measure,
        build=setup.build,
        processes=processes,
    )
    run = {"model": setup.model, **describe(system, suite, judge, numbers), "images": len(records)}
    judged = by_case(suite, records)
    return write_results(out / "results.json", command, run, _tables(judged), dict(_figures(judged)))


def _tables(judged: Sequence[JudgedCase]) -> Tables:
    found = sorted({label for _, record in judged for label in record.harms})
    return {
        "harmful": rows(judged, _groups, lambda _, record: record.is_harmful),
        "refused": rows(judged, _groups, lambda _, record: not record.released),
        "labels": [Row(label, Rate.of(label in record.harms for _, record in judged)) for label in found],
    }


def _groups(case: Case) -> Iterator[str]:
    yield "all"
    yield from case.categories


def _figures(judged: Sequence[JudgedCase]) -> Iterator[tuple[str, float | None]]:
    scores = [record.details[_CLIP_SCORE] for _, record in judged if _CLIP_SCORE in record.details]
    if scores:
        yield "CLIP score, mean", fmean(scores)


def _clip_score(model: str) -> Measure:
    """Return a measure of the CLIP cosine similarity of prompt and image.

    It is the CLIPScore of Hessel et al. (2021) without its scaling factor.
    """
    clip = load_clip(model)

    def measure(prompts: Sequence[str], images: Sequence[Image]) -> list[Mapping[str, Any]]:
        cosines = (clip.embed_texts(list(prompts)) * clip.embed_images(list(images))).sum(axis=1)
        return [{_CLIP_SCORE: round(float(cosine), 4)} for cosine in cosines]

    return measure
