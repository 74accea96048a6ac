"""Safe Latent Diffusion as guidance for every pipeline."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from safelight import registry
from safelight.alignment.guidance.concepts import DEFAULT_CONCEPT, Concept
from safelight.alignment.guidance.configuration import CONFIGURATIONS, SafetyConfig, configuration
from safelight.alignment.guidance.guidance import Guidance
from safelight.alignment.guidance.hook import Moment
from safelight.alignment.guidance.safe_latent_diffusion import Momentum, towards_harm

if TYPE_CHECKING:
    from torch import Tensor

# Noise levels are computed in single precision.
_TOLERANCE = 1e-4


class SafeGuidance(Guidance):
    """Safe Latent Diffusion (Schramowski et al. 2023, arXiv:2211.05105), as published.

    ``config`` is "weak", "medium", "strong", "max" or a custom ``SafetyConfig``. Other options are those of
    :class:`Guidance`. Each concept has its own guidance scale μ and its own momentum, and the terms of
    several concepts add up.
    """

    def __init__(
        self, config: str | SafetyConfig = "medium", concept: Concept = DEFAULT_CONCEPT, **options: Any
    ) -> None:
        super().__init__(concept, **options)
        self.config = configuration(config)
        self.name = f"safe guidance, {config}"
        self._starts_at = self.config.starts_at

    def predicts_concepts(self, moment: Moment) -> bool:
        """Return whether the concepts' outputs are needed; during the warm-up only for the momentum."""
        return not self.config.does_nothing and (self.config.uses_momentum or self.acts(moment))

    def acts(self, moment: Moment) -> bool:
        return -moment.noise >= self._starts_at - _TOLERANCE

    def concept_term(
        self, uncond: Tensor, prompt: Tensor, concept: Tensor, noise_per_output: Tensor
    ) -> Tensor:
        return towards_harm(self.config, uncond, prompt, concept, noise_per_output)

    def with_momentum(self, memory: dict[str, Any], concept: str, term: Tensor, noise: Tensor) -> Tensor:
        momentum: Momentum = memory.setdefault(concept, Momentum(self.config))
        return momentum.add(term, noise)


for _name in CONFIGURATIONS:
    registry.register("guidance", f"sld-{_name}")(partial(SafeGuidance, _name))
