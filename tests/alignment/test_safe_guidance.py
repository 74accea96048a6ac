"""Guidance on stock pipelines, beside diffusers' own (deprecated) safe pipeline."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.deprecated.stable_diffusion_safe import StableDiffusionPipelineSafe
from numpy.typing import NDArray

from pipelines import FAMILIES, draw, family
from safelight.alignment.guidance import CONFIGURATIONS, SafeGuidance, SafetyConfig
from safelight.models.patched_method import patched_method

CONCEPT = "blood"
# How their timesteps are spaced, and by how many steps of 50 they begin before the paper's.
SCHEDULERS = {
    "DDIMScheduler": ("leading", 0),  # 981, 961, … 1
    "EulerDiscreteScheduler": ("leading", 0),
    "DPMSolverMultistepScheduler": ("trailing", 1),  # 999, 979, … 19
}
Draw = Callable[..., NDArray[np.float32]]
STRONG = SafetyConfig(5000, 1.0, 0.5, 0.7, 0)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("config", CONFIGURATIONS)
@pytest.mark.filterwarnings("ignore")
def test_images_are_those_of_diffusers_safe_pipeline(pipe: Any, scheduler: str, config: str) -> None:
    """With 50 steps, a warm-up counted in steps and one given by its noise level are the same."""
    spacing, early = SCHEDULERS[scheduler]
    parts = {
        **pipe.components,
        "scheduler": getattr(diffusers, scheduler).from_config(
            pipe.scheduler.config,
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing=spacing,
        ),
    }
    stock = diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)
    parts.pop("image_encoder")
    safe = StableDiffusionPipelineSafe(**parts, requires_safety_checker=False)
    safe.safety_concept = CONCEPT
    for each in (stock, safe):
        each.set_progress_bar_config(disable=True)
    published = CONFIGURATIONS[config]
    expected = draw(
        safe,
        num_inference_steps=50,
        sld_guidance_scale=published.scale,
        sld_warmup_steps=published.warm_up,
        sld_threshold=published.threshold,
        sld_momentum_scale=published.momentum_scale,
        sld_mom_beta=published.momentum,
    )
    ours = replace(published, warm_up=max(0, published.warm_up - early))
    with SafeGuidance(ours if early else config, CONCEPT).attach(stock) as attached:
        guided = draw(stock, num_inference_steps=50)
    assert np.abs(guided - expected).max() <= 1e-5
    assert attached.traces[0].acted


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.filterwarnings("ignore")
def test_every_family_is_guided_and_then_itself_again(name: str, pipe: Any) -> None:
    made, options, known = family(name, pipe)
    before = draw(made, **options)
    with SafeGuidance(SafetyConfig(0, 1.0, 0.5, 0.7), CONCEPT, **known).attach(made):
        assert (draw(made, **options) == before).all(), "a scale of 0 changes nothing at all"
    guidance = SafeGuidance(STRONG, CONCEPT, **known)
    with guidance.attach(made) as attached:
        guided = draw(made, **options)
        assert np.abs(guided - before).max() > 1e-3
        assert (draw(made, **options) == guided).all(), "nothing is remembered from call to call"
        (trace,) = attached.traces
        assert trace.acted
        assert len(trace.steps) == 6
    assert (draw(made, **options) == before).all()
    with guidance.attach(made):
        assert (draw(made, **options) == guided).all()


Calls = list[dict[str, Any]]


def record(made: Any, prompt: str, **options: Any) -> tuple[Calls, list[torch.Tensor]]:
    """Record the keyword arguments of the network's calls and the inputs of the scheduler."""
    network = made.unet if hasattr(made, "unet") else made.transformer
    names = list(inspect.signature(type(network).forward).parameters)[1:]
    calls: Calls = []
    outputs: list[torch.Tensor] = []
    hook = network.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append({**dict(zip(names, args, strict=False)), **kwargs}),
        with_kwargs=True,
    )

    def taking(take: Callable[..., Any]) -> Callable[..., Any]:
        return lambda output, *rest, **more: outputs.append(output) or take(output, *rest, **more)

    with patched_method(made.scheduler, "step", taking):
        draw(made, prompt, **options)
    hook.remove()
    return calls, outputs


def ask(made: Any, call: dict[str, Any], texts: dict[str, Any], row: int) -> torch.Tensor:
    """The network about the last sample of ``call`` and what row ``row`` of ``texts`` says."""
    network = made.unet if hasattr(made, "unet") else made.transformer
    rows = len(call.get("sample", call.get("hidden_states")))

    def one(value: Any, row: int) -> Any:
        if isinstance(value, dict):
            return {name: one(each, row) for name, each in value.items()}
        return value[[row]] if isinstance(value, torch.Tensor) and value.shape[:1] == (rows,) else value

    said = ("encoder_hidden_states", "pooled_projections", "added_cond_kwargs")
    alone = {name: value if name.endswith("ids") else one(value, -1) for name, value in call.items()}
    alone |= {name: one(texts[name], row) for name in said if name in texts}
    with torch.no_grad():
        answer: torch.Tensor = network(**{**alone, "return_dict": False})[0]
    return answer


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.filterwarnings("ignore")
def test_the_scheduler_gets_what_the_formula_says(name: str, pipe: Any) -> None:
    """In the middle of a generation, from the network asked by hand about one text at a time."""
    made, options, known = family(name, pipe)
    with SafeGuidance(SafetyConfig(3, 0.02), CONCEPT, **known).attach(made):
        calls, outputs = record(made, "a cat", **options)
    step, of_a_step = 3, len(calls) // len(outputs)
    call = calls[step * of_a_step]
    of_concept, _ = record(made, CONCEPT, **options)
    of_nothing, _ = record(made, "", **options)
    prompt = ask(made, call, call, -1)
    concept = ask(made, call, of_concept[0], -1)
    nothing = ask(made, call, calls[1] if name == "flux, two calls" else of_nothing[0], 0)
    strength = next(iter(known.values()), {"sdxl": 5.0, "sd3": 7.0}.get(name, 7.5))
    kept = made.scheduler.alphas_cumprod[int(call["timestep"])] ** 0.5 if name == "sd2" else 1.0
    noise = 1 - float(made.scheduler.sigmas[step]) if name[:3] in ("sd3", "flu") else float(kept)

    away = noise * (prompt - concept)
    taken = torch.where(away < 0.02, (3 * away.abs()).clamp(max=1), 0.0) * (concept - nothing)
    expected = nothing + strength * (prompt - taken - nothing)
    if "scale" in known:
        expected = prompt - strength * taken
    unguided = expected + strength * taken
    # On which side of the threshold an element lies is, this near, a matter of rounding.
    sure = (away - 0.02).abs() > 1e-5
    assert sure.float().mean() > 0.99
    assert torch.allclose(outputs[step][sure], expected[sure], atol=1e-5)
    assert (unguided - expected).abs().max() > 1e-3
