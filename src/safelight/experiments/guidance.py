"""Evaluation of guidance: the harm that it removes, and its effect on images of benign prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from safelight import registry
from safelight.alignment.delta.delta import Delta
from safelight.alignment.guidance import (
    CONFIGURATIONS,
    Guidance,
    NegativeGuidance,
    NegativePrompt,
    PromptProjection,
    SafeGuidance,
    risk,
)
from safelight.evaluation.command_line import command_line
from safelight.evaluation.comparison import Candidate, Question, built, compare, is_harmful, was_released
from safelight.evaluation.results import write_results
from safelight.evaluation.run import Progress
from safelight.evaluation.system import GuardedSystem, aligned, quiet_pipeline
from safelight.evaluation.tables import shows
from safelight.guard.guard import Guard
from safelight.models.files import file_sha256
from safelight.models.weights import weights_sha256
from safelight.policy import GuidanceRule, Policy
from safelight.protocols import System
from safelight.storybook.judging import StorybookJudge
from safelight.storybook.suites import suite
from safelight.storybook.vocabulary import HARMFUL_CONCEPTS

_PLAIN, _STEERED, _AT_RISK = "as it is", "see, then steer", "projection at risk, see, then steer"


def evaluate_guidance(
    out: Path,
    model: str = "storybook",
    harmful: int = 240,
    seeds: int = 4,
    benign: int = 500,
    seed: int = 0,
    steps: int = 25,
    progress: Progress | None = None,
    deltas: Sequence[Path] = (),
) -> dict[str, Any]:
    """Compare all guidance methods; or, with ``deltas``, the unchanged model and each delta.

    A delta is applied where a filter detects harm. There are ``harmful`` harmful prompts with ``seeds``
    images each, and ``benign`` benign prompts with one image each. Records are kept in ``out``, from which an
    interrupted run resumes. Writes ``out / "results.json"``. Raises ``ModelError`` for a delta that cannot be
    read or is for another model.
    """
    pipe, judge = quiet_pipeline(model), StorybookJudge()
    for path in deltas:
        Delta.load(path).check(pipe)
    questions = [
        Question(suite("harmful", seed, harmful), range(seed, seed + seeds)),
        Question(suite("benign", seed, benign), [seed]),
    ]
    systems = _systems(pipe, deltas, num_inference_steps=steps)
    made = compare(
        [Candidate(name, opened, questions) for name, opened in systems.items()], judge, out, progress
    )
    run = {"model": model, "weights_sha256": weights_sha256(pipe), "steps": steps, **judge.settings}
    run |= {"concept": HARMFUL_CONCEPTS}
    if deltas:
        run["deltas"] = {path.stem: file_sha256(path) for path in deltas}
    options = {
        "harmful": harmful,
        "num_images_per_prompt": seeds,
        "benign": benign,
        "seed": seed,
        "steps": steps,
    }
    return write_results(
        out / "results.json",
        command_line("guidance", delta=[path.name for path in deltas], **options),
        run,
        {
            "harm": made.rows("harmful", is_harmful),
            "objects": made.rows("benign", shows),
            "answered": made.rows("harmful", was_released),
            "same": made.same_pixels("benign"),
        },
        made.distances("benign"),
    )


def _systems(
    pipe: Any, deltas: Sequence[Path], **arguments: Any
) -> Mapping[str, Callable[[], AbstractContextManager[System]]]:
    guidances: dict[str, Guidance | None] = {_PLAIN: None}
    guards = {f"{_STEERED} by {path.stem}": _steering_guard(path) for path in deltas}
    if not deltas:
        guidances |= {
            **{name: SafeGuidance(name, HARMFUL_CONCEPTS) for name in CONFIGURATIONS},
            "negative prompt": NegativePrompt(HARMFUL_CONCEPTS),
            "negative guidance": NegativeGuidance(0.5, HARMFUL_CONCEPTS),
            "projection": PromptProjection(HARMFUL_CONCEPTS),
            "projection, at risk": PromptProjection(when=risk.PolicyRisk(Policy.load("storybook"))),
        }
        guards = {_STEERED: _steering_guard(), _AT_RISK: _steering_guard(default="prompt-projection")}
    return {
        **{name: partial(aligned, pipe, by, **arguments) for name, by in guidances.items()},
        **{name: built(GuardedSystem(guard, pipe, **arguments)) for name, guard in guards.items()},
    }


def _steering_guard(delta: Path | None = None, **rule: Any) -> Guard:
    """Return the guard of the storybook's policy without its prompt filters.

    Images are then steered only because of image filters, or because of the risk that guidance computes from
    the prompt embeddings. The ``delta`` is used for all concepts of the policy and is tried first.
    """
    policy = Policy.load("storybook")
    before = policy.guidance or GuidanceRule()
    if delta:
        rule["steer"] = ("erasure", *before.steer)
        rule["deltas"] = dict.fromkeys(before.concepts, str(delta.resolve()))
    policy = policy.model_copy(update={"guidance": before.model_copy(update=rule)})
    image = [registry.bind("image_filter", name) for name in policy.filters.image]
    return Guard(policy, {"prompt": [registry.bind("prompt_filter", "never")], "image": image})
