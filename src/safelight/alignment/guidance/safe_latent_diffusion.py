"""Safe Latent Diffusion (Schramowski et al. 2023, arXiv:2211.05105): what to take from a prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safelight.alignment.guidance.configuration import SafetyConfig

if TYPE_CHECKING:
    from torch import Tensor

# Where one of the output says as little about the noise, what is remembered in noise cannot be said in it.
_LEAST_NOISE = 1e-3


def towards_harm(
    config: SafetyConfig, nothing: Tensor, prompt: Tensor, concept: Tensor, noise_per_output: Tensor
) -> Tensor:
    """μ ⊙ (ε_S - ε_0) of eq. 5 with μ of eq. 6, in units of the model's output.

    ``nothing``, ``prompt`` and ``concept`` are the model's output for no text, for the prompt and for the
    concept, of one shape. The paper's predictions are of noise: μ compares in it, with what
    ``noise_per_output`` makes of the output.
    """
    import torch

    away = noise_per_output * (prompt - concept)
    scale = (away.abs() * config.scale).clamp(max=1)
    scale = torch.where(away >= config.threshold, torch.zeros_like(scale), scale)
    return scale * (concept - nothing)


class Momentum:
    """ν of each sample, in units of noise, from step to step."""

    def __init__(self, config: SafetyConfig) -> None:
        self._config = config
        self._value: Tensor | float = 0.0

    def add(self, guidance: Tensor, noise_per_output: Tensor) -> Tensor:
        """γ of eq. 5: ``guidance`` and what is remembered, which is then eq. 7's of the next step."""
        if not self._config.remembers:
            return guidance
        whole = noise_per_output * guidance + self._config.momentum_scale * self._value
        self._value = self._config.momentum * self._value + (1 - self._config.momentum) * whole
        if noise_per_output.abs() < _LEAST_NOISE:
            return guidance
        return whole / noise_per_output
