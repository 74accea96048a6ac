"""The training objective of a denoiser: noisy samples and their target predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safelight.models.noise_schedule import prediction_type

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Question:
    """A batch of noisy samples with their targets.

    ``sample`` is x_t and ``target`` the target prediction, (rows, …) each; ``timestep`` is the scheduler's
    timestep, (rows,).
    """

    sample: Tensor
    timestep: Tensor
    target: Tensor


class Objective:
    """The training objective for the prediction type of a diffusers scheduler.

    Diffusion (Ho et al. 2020, arXiv:2006.11239, eq. 4 and 14): x_t = √ᾱ_t x₀ + √(1 - ᾱ_t) ε with t uniform;
    the target is ε, x₀, or v = √ᾱ_t ε - √(1 - ᾱ_t) x₀ (Salimans & Ho 2022, arXiv:2202.00512, appendix D).
    Rectified flow (Esser et al. 2024, arXiv:2403.03206, eq. 2, 19 and 23): x_t = (1 - t) x₀ + t ε with the
    logit of t normally distributed, and t shifted by the scheduler's static shift; the target is ε - x₀.

    Raises ``ModelError`` for an unknown scheduler or prediction type.
    """

    def __init__(self, scheduler: Any) -> None:
        self._kind = prediction_type(scheduler)
        self._count = int(scheduler.config.num_train_timesteps)
        config = scheduler.config
        self._shift = 1.0 if config.get("use_dynamic_shifting") else float(config.get("shift") or 1.0)
        if self._kind != "flow":
            from diffusers import DDPMScheduler

            self._noised: Any = DDPMScheduler.from_config(config)

    def question(self, original: Tensor, random: torch.Generator) -> Question:
        """Return noisy samples of ``original``, x₀, (rows, …), with their targets, in full precision."""
        import torch

        rows = len(original)
        noise = torch.randn(original.shape, generator=random).to(original)
        if self._kind == "flow":
            t = torch.sigmoid(torch.randn(rows, generator=random)).to(original)
            t = self._shift * t / (1 + (self._shift - 1) * t)
            share = t.view(-1, *[1] * (original.ndim - 1))
            return Question((1 - share) * original + share * noise, t * self._count, noise - original)
        timestep = torch.randint(self._count, (rows,), generator=random).to(original.device)
        sample = self._noised.add_noise(original, noise, timestep)
        if self._kind == "v_prediction":
            return Question(sample, timestep, self._noised.get_velocity(original, noise, timestep))
        return Question(sample, timestep, original if self._kind == "sample" else noise)
