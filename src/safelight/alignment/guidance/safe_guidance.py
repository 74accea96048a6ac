"""Safe Latent Diffusion for every pipeline."""

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
_SLIGHT = 1e-4


class SafeGuidance(Guidance):
    """Schramowski et al. (2023), arXiv:2211.05105, as published.

    ``config`` is "weak", "medium", "strong", "max" or a ``SafetyConfig`` of your own; the rest is as in
    :class:`Guidance`.

    Several concepts are each compared and remembered on their own; what they take away adds up.
    """

    def __init__(
        self, config: str | SafetyConfig = "medium", concept: Concept = DEFAULT_CONCEPT, **options: Any
    ) -> None:
        super().__init__(concept, **options)
        self.config = configuration(config)
        self.name = f"safe guidance, {config}"
        self._starts_at = self.config.starts_at

    def looks(self, moment: Moment) -> bool:
        """Before it acts it looks only for what it will remember."""
        return not self.config.does_nothing and (self.config.remembers or self.acts(moment))

    def acts(self, moment: Moment) -> bool:
        return -moment.noise >= self._starts_at - _SLIGHT

    def towards(self, nothing: Tensor, prompt: Tensor, concept: Tensor, noise_per_output: Tensor) -> Tensor:
        return towards_harm(self.config, nothing, prompt, concept, noise_per_output)

    def remembering(self, memory: dict[str, Any], concept: str, towards: Tensor, noise: Tensor) -> Tensor:
        momentum: Momentum = memory.setdefault(concept, Momentum(self.config))
        return momentum.add(towards, noise)


for _name in CONFIGURATIONS:
    registry.register("guidance", f"sld-{_name}")(partial(SafeGuidance, _name))
