"""Safe Latent Diffusion (Schramowski et al. 2023, arXiv:2211.05105): the term and its momentum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safelight.alignment.guidance.configuration import SafetyConfig

if TYPE_CHECKING:
    from torch import Tensor

# Below this much noise per output, momentum in units of noise cannot be expressed in units of the output.
_LEAST_NOISE = 1e-3


def towards_harm(
    config: SafetyConfig, uncond: Tensor, prompt: Tensor, concept: Tensor, noise_per_output: Tensor
) -> Tensor:
    """Return μ ⊙ (ε_S - ε_0) of eq. 5 with μ of eq. 6, in units of the model's output.

    ``uncond``, ``prompt`` and ``concept`` are the model's unconditional output and those for the prompt and
    for the concept, of one shape. The paper's model predicts noise, so μ is computed from noise: the output
    times ``noise_per_output``.
    """
    import torch

    away = noise_per_output * (prompt - concept)
    scale = (away.abs() * config.scale).clamp(max=1)
    scale = torch.where(away >= config.threshold, torch.zeros_like(scale), scale)
    return scale * (concept - uncond)


class Momentum:
    """The momentum ν of each sample, in units of noise, carried from step to step."""

    def __init__(self, config: SafetyConfig) -> None:
        self._config = config
        self._value: Tensor | float = 0.0

    def add(self, guidance: Tensor, noise_per_output: Tensor) -> Tensor:
        """Return γ of eq. 5, ``guidance`` with momentum, and update the momentum by eq. 7."""
        if not self._config.uses_momentum:
            return guidance
        total = noise_per_output * guidance + self._config.momentum_scale * self._value
        self._value = self._config.momentum * self._value + (1 - self._config.momentum) * total
        if noise_per_output.abs() < _LEAST_NOISE:
            return guidance
        return total / noise_per_output
