"""Signal and noise levels of diffusers schedulers, and the predicted x₀ at one step.

A sample is x_t = a·x₀ + b·ε. Variance-preserving schedulers have a² + b² = 1 (Ho et al. 2020, eq. 4), those
of Karras et al. (2022, eq. 1) a = 1 and b = σ, rectified flow a = 1 - σ and b = σ (Liu et al. 2022, eq. 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safelight.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

_BY_ALPHAS = ("DDIM", "DDIMParallel", "DDPM", "DDPMParallel", "LCM", "PNDM", "TCD")
_BY_ALPHA_AND_SIGMA = (
    "DEISMultistep",
    "DPMSolverMultistep",
    "DPMSolverSinglestep",
    "SASolver",
    "UniPCMultistep",
)
_BY_SIGMA = (
    "EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete",
    "LMSDiscrete",
)  # fmt: skip
_FLOW = ("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete", "FlowMatchLCM")


def signal_and_noise(scheduler: Any, timestep: Any) -> tuple[Tensor, Tensor]:
    """Return a and b at ``timestep``, before the scheduler takes that step.

    Raises ``ModelError`` for an unsupported scheduler.
    """
    import torch

    kind = _kind(scheduler)
    if kind in _BY_ALPHAS:
        kept = scheduler.alphas_cumprod[int(timestep)]
        return kept.sqrt(), (1 - kept).sqrt()
    sigma = scheduler.sigmas[_index(scheduler, timestep)]
    if kind in _BY_ALPHA_AND_SIGMA:
        a, b = scheduler._sigma_to_alpha_sigma_t(sigma)
        return torch.as_tensor(a), torch.as_tensor(b)
    if kind in _FLOW:
        return 1 - sigma, sigma
    return torch.ones_like(sigma), sigma


def predicted_original(scheduler: Any, output: Tensor, timestep: Any, sample: Tensor) -> Tensor:
    """Return the predicted x₀ for the model's ``output`` at ``timestep``, by the scheduler's prediction type.

    All tensors are (N, …); ``sample`` is the x_t before the scheduler's step. Raises ``ModelError`` for an
    unsupported scheduler or prediction type.
    """
    a, b = (part.to(sample.device, sample.dtype) for part in signal_and_noise(scheduler, timestep))
    kind = prediction_type(scheduler)
    if kind == "sample":
        return output
    if kind == "epsilon":
        return (sample - b * output) / a
    if kind == "flow":
        return sample - b * output
    # v = (a·ε - b·x₀) / √(a² + b²) (Salimans & Ho 2022, appendix D).
    norm = (a * a + b * b).sqrt()
    return (a * sample / norm - b * output) / norm


def noise_per_output(scheduler: Any, timestep: Any) -> Tensor:
    """Return the derivative of the predicted noise with respect to the model's output.

    Follows from :func:`predicted_original` and x_t = a·x₀ + b·ε, with x_t held.
    """
    import torch

    a, b = signal_and_noise(scheduler, timestep)
    kind = prediction_type(scheduler)
    if kind == "epsilon":
        return torch.ones_like(a)
    if kind == "flow":
        return a
    if kind == "sample":
        return -a / b
    return a / (a * a + b * b).sqrt()


def log_signal_to_noise(scheduler: Any, timestep: Any) -> Tensor:
    """Return the log signal-to-noise ratio ln(a²/b²), which does not depend on the scheduler's time scale."""
    a, b = signal_and_noise(scheduler, timestep)
    return 2 * (a.log() - b.log())


def prediction_type(scheduler: Any) -> str:
    """Return "epsilon", "v_prediction", "sample" or "flow"; raises ``ModelError`` for other types."""
    given = "flow" if _kind(scheduler) in _FLOW else scheduler.config.get("prediction_type", "epsilon")
    kind = {"flow_prediction": "flow"}.get(given, given)
    if kind not in ("epsilon", "v_prediction", "sample", "flow"):
        raise ModelError(f'the prediction type "{given}" is not supported; use another scheduler.')
    return str(kind)


def is_mid_step(scheduler: Any) -> bool:
    """Return whether a second-order scheduler is between the two evaluations of one step.

    Its sample is then an intermediate value that other code should not use.
    """
    return not getattr(scheduler, "state_in_first_order", True)


def _kind(scheduler: Any) -> str:
    name = type(scheduler).__name__.removesuffix("Scheduler")
    if name not in (*_BY_ALPHAS, *_BY_ALPHA_AND_SIGMA, *_BY_SIGMA, *_FLOW):
        raise ModelError(f"the scheduler {type(scheduler).__name__} is not supported; use another one.")
    return name


def _index(scheduler: Any, timestep: Any) -> int:
    if scheduler.step_index is not None:
        return int(scheduler.step_index)
    begin = scheduler.begin_index
    return int(scheduler.index_for_timestep(timestep) if begin is None else begin)
