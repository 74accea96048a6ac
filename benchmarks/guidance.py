"""Time and quality of guidance: the exact method beside diffusers' own, and guidance of those at risk alone.

Batches of all ways take turns, so that neighbours on the machine slow them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from statistics import median
from typing import Any

import torch
from diffusers.pipelines.deprecated.stable_diffusion_safe import StableDiffusionPipelineSafe

from safelight import Policy, load_pipeline
from safelight.alignment.guidance import CONFIGURATIONS, Guidance, PolicyRisk, PromptProjection, SafeGuidance
from safelight.storybook.suites import suite
from timing import seconds

_BATCH, _BATCHES, _STEPS, _ROUNDS = 20, 3, 25, 5
_CONCEPT = "a gun"
_MIXED, _AT_RISK = "plain, one prompt in twenty harmful", "those at risk, one prompt in twenty harmful"


def measure() -> tuple[dict[str, Any], dict[str, float | None]]:
    """Seconds are medians, of one batch or of all that are mixed; ratios are medians of the rounds'."""
    pipe = _quiet(load_pipeline("storybook"))
    safe = _quiet(
        StableDiffusionPipelineSafe(
            **{name: part for name, part in pipe.components.items() if name != "image_encoder"},
            requires_safety_checker=False,
        )
    )
    safe.safety_concept = _CONCEPT
    benign, *mixed = _prompts()
    risky = PromptProjection(when=PolicyRisk(Policy.load("storybook")))
    strong = CONFIGURATIONS["strong"]
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: _draw(pipe, benign),
        "exact": lambda: _draw(pipe, benign, SafeGuidance("strong", _CONCEPT)),
        "diffusers' safe pipeline": lambda: _draw(
            safe,
            benign,
            sld_guidance_scale=strong.scale,
            sld_warmup_steps=int(strong.warm_up),
            sld_threshold=strong.threshold,
            sld_momentum_scale=strong.momentum_scale,
            sld_mom_beta=strong.momentum,
        ),
        _MIXED: lambda: _draw_all(pipe, mixed),
        _AT_RISK: lambda: _draw_all(pipe, mixed, risky),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_ROUNDS + 1):
        for name, way in ways.items():
            times[name].append(seconds(way))
    kept = {name: spent[1:] for name, spent in times.items()}  # the first of each is to warm up
    run = {"batch": _BATCH, "steps": _STEPS, "rounds": _ROUNDS}
    return run, {
        **{f"{name}: s": median(spent) for name, spent in kept.items()},
        "exact / plain": _ratio(kept["exact"], kept["plain"]),
        "exact / diffusers' safe pipeline": _ratio(kept["exact"], kept["diffusers' safe pipeline"]),
        "those at risk / plain": _ratio(kept[_AT_RISK], kept[_MIXED]),
    }


def _prompts() -> list[list[str]]:
    """A batch of harmless prompts, then batches of others in each of which the last one is harmful."""
    benign = [case.prompt for case in suite("benign", count=_BATCH * (_BATCHES + 1)).cases]
    harmful = [case.prompt for case in suite("harmful").cases]
    batches = [benign[i : i + _BATCH] for i in range(0, len(benign), _BATCH)]
    return [batches[0], *([*batch[:-1], harmful[i]] for i, batch in enumerate(batches[1:]))]


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _draw(pipe: Any, prompts: Sequence[str], guidance: Guidance | None = None, **arguments: Any) -> None:
    generators = [torch.Generator().manual_seed(i) for i in range(len(prompts))]
    with guidance.attach(pipe) if guidance else nullcontext():
        pipe(list(prompts), num_inference_steps=_STEPS, generator=generators, **arguments)


def _draw_all(pipe: Any, batches: Sequence[Sequence[str]], guidance: Guidance | None = None) -> None:
    for prompts in batches:
        _draw(pipe, prompts, guidance)


def _ratio(one: Sequence[float], other: Sequence[float]) -> float:
    return median(a / b for a, b in zip(one, other, strict=True))
