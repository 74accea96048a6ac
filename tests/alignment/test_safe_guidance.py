"""Guidance on stock pipelines, beside diffusers' own (deprecated) safe pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.deprecated.stable_diffusion_safe import StableDiffusionPipelineSafe
from numpy.typing import NDArray

from pipelines import flux, sd2, sd3, sdxl
from safelight.alignment.guidance import (
    CONFIGURATIONS,
    SafeGuidance,
    SafetyConfig,
)

CONCEPT = "blood"
# How their timesteps are spaced, and by how many steps of 50 they begin before those that the paper counts in.
SCHEDULERS = {
    "DDIMScheduler": ("leading", 0),  # 981, 961, … 1
    "EulerDiscreteScheduler": ("leading", 0),
    "DPMSolverMultistepScheduler": ("trailing", 1),  # 999, 979, … 19
}
Draw = Callable[..., NDArray[np.float32]]
STRONG = SafetyConfig(5000, 1.0, 0.5, 0.7, 0)


def draw(pipe: Any, prompt: Any = "a cat", seed: int = 3, **options: Any) -> NDArray[np.float32]:
    count = (1 if isinstance(prompt, str) else len(prompt)) * options.get("num_images_per_prompt", 1)
    generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]
    options = {"num_inference_steps": 6, "output_type": "np", **options}
    images: NDArray[np.float32] = pipe(prompt, generator=generators, **options).images
    return images


def family(name: str, pipe: Any) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """A pipeline, what its calls need, and what guidance needs to know of them."""
    torch.manual_seed(0)
    make = {"sd2": sd2, "sdxl": sdxl, "sd3": sd3, "flux": flux, "flux, two calls": flux}
    made = make[name](pipe) if name in make else diffusers.StableDiffusionPipeline(**pipe.components)
    made.set_progress_bar_config(disable=True)
    options: dict[str, Any] = {"max_sequence_length": 16} if name[:4] in ("sd3", "flux") else {}
    if name == "flux":
        return made, {**options, "guidance_scale": 3.5}, {"scale": 3.5}
    if name == "flux, two calls":
        two = {"true_cfg_scale": 4.0}
        return made, {**options, **two, "negative_prompt": "a dog"}, two
    if name == "sd without guidance":
        return made, {"guidance_scale": 1.0}, {"scale": 5.0}
    return made, options, {}


FAMILIES = ("sd", "sd2", "sdxl", "sd3", "flux", "flux, two calls", "sd without guidance")


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("config", CONFIGURATIONS)
@pytest.mark.filterwarnings("ignore")
def test_pictures_are_those_of_diffusers_safe_pipeline(pipe: Any, scheduler: str, config: str) -> None:
    """With 50 steps both mean the same by a warm-up, once it is told by the noise that it ends at."""
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
    with SafeGuidance(ours if early else config, CONCEPT).attach(stock):
        guided = draw(stock, num_inference_steps=50)
    assert np.abs(guided - expected).max() <= 1e-5
    plain = draw(stock, num_inference_steps=50)
    assert np.abs(plain - expected).max() > 1e-4


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
        assert np.abs(guided - before).max() > 1e-4
        assert (draw(made, **options) == guided).all(), "nothing is remembered from call to call"
        assert attached.trace.acted_on(0)
        assert len(attached.trace.steps) == 6
    assert (draw(made, **options) == before).all()
    with guidance.attach(made):
        assert (draw(made, **options) == guided).all()
