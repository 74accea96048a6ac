from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from safelight.errors import ModelError
from safelight.models.noise_schedule import is_mid_step, predicted_original, signal_and_noise

SAMPLE = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
OUTPUT = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
PREDICTIONS = ["epsilon", "v_prediction", "sample"]
# Those that tell what x₀ they computed.
TELLING = {
    "DDIMScheduler": {"clip_sample": False},
    "DDPMScheduler": {"clip_sample": False},
    "EulerDiscreteScheduler": {},
    "EulerAncestralDiscreteScheduler": {},
}
CONVERTING = [
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
]


def _scheduler(name: str, **options: Any) -> Any:
    scheduler = getattr(diffusers, name)(**options)
    scheduler.set_timesteps(10)
    return scheduler


@pytest.mark.parametrize(
    ("name", "prediction"),
    [
        (name, prediction)
        for name in TELLING
        for prediction in PREDICTIONS
        if (name, prediction) != ("EulerAncestralDiscreteScheduler", "sample")  # it has no such prediction
    ],
)
def test_x0_is_what_the_scheduler_says(name: str, prediction: str) -> None:
    scheduler = _scheduler(name, prediction_type=prediction, **TELLING[name])
    for timestep in scheduler.timesteps[:9]:
        ours = predicted_original(scheduler, OUTPUT, timestep, SAMPLE)
        theirs = scheduler.step(OUTPUT, timestep, SAMPLE).pred_original_sample
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", [*PREDICTIONS, "flow_prediction"])
@pytest.mark.parametrize("name", CONVERTING)
def test_x0_is_what_the_solver_works_with(name: str, prediction: str) -> None:
    flow = {"use_flow_sigmas": True} if prediction == "flow_prediction" else {}
    scheduler = _scheduler(name, prediction_type=prediction, **flow)
    scheduler._init_step_index(scheduler.timesteps[0])
    for step, timestep in enumerate(scheduler.timesteps[:9]):
        scheduler._step_index = step
        ours = predicted_original(scheduler, OUTPUT, timestep, SAMPLE)
        theirs = scheduler.convert_model_output(OUTPUT, sample=SAMPLE)
        if name == "DEISMultistepScheduler":  # works with ε: x₀ = (x - b·ε) / a
            a, b = signal_and_noise(scheduler, timestep)
            theirs = (SAMPLE - b * theirs) / a
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        *TELLING, *CONVERTING, "DDIMParallelScheduler", "DDPMParallelScheduler", "HeunDiscreteScheduler",
        "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "LCMScheduler", "LMSDiscreteScheduler",
        "PNDMScheduler", "SASolverScheduler", "TCDScheduler", "FlowMatchEulerDiscreteScheduler",
        "FlowMatchHeunDiscreteScheduler",
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # SciPy and DEIS with NumPy 2
def test_a_perfect_prediction_gives_the_image_at_every_step(name: str) -> None:
    """x_t is made by the definition from a known x₀ and ε; the outputs follow from these by hand."""
    scheduler = _scheduler(name)
    x0, noise = SAMPLE, OUTPUT
    seen = 0
    for timestep in scheduler.timesteps[:8]:
        if not name.startswith("FlowMatch"):
            scheduler.scale_model_input(x0, timestep)
        if is_mid_step(scheduler):
            scheduler.step(noise, timestep, x0)
            continue
        a, b = signal_and_noise(scheduler, timestep)
        sample = a * x0 + b * noise
        output = noise - x0 if name.startswith("FlowMatch") else noise
        torch.testing.assert_close(
            predicted_original(scheduler, output, timestep, sample), x0, rtol=1e-3, atol=2e-3
        )
        seen += 1
        scheduler.step(output, timestep, sample)
    assert seen >= 4


def test_flow_by_hand() -> None:
    """σ = 1 - t/10 without shift: the third of ten steps has σ = 0.8."""
    scheduler = _scheduler("FlowMatchEulerDiscreteScheduler")
    scheduler.set_timesteps(sigmas=[1.0, 0.9, 0.8])
    scheduler._step_index = 2
    a, b = signal_and_noise(scheduler, scheduler.timesteps[2])
    assert (round(float(a), 4), round(float(b), 4)) == (0.2, 0.8)


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ModelError, match="EDMEulerScheduler is not supported"):
        predicted_original(_scheduler("EDMEulerScheduler"), OUTPUT, 1, SAMPLE)
    scheduler = _scheduler("DDIMScheduler")
    scheduler.register_to_config(prediction_type="odd")
    with pytest.raises(ModelError, match='type "odd"'):
        predicted_original(scheduler, OUTPUT, 1, SAMPLE)
