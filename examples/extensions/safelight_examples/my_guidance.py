"""A guidance that acts while the composition of an image is decided, and not when details are drawn."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from safelight.alignment.guidance import DEFAULT_CONCEPT, Guidance
from safelight.alignment.guidance.hook import Moment


class FadingGuidance(Guidance):
    """Negative guidance (ε_S - ε_0) up to the log signal-to-noise ratio ``until``; at 0, the default, an
    image is half noise."""

    name = "fading guidance"

    def __init__(
        self, strength: float = 1.0, until: float = 0.0, concept: Any = DEFAULT_CONCEPT, **options: Any
    ) -> None:
        super().__init__(concept, **options)
        self._strength = strength
        self._until = until

    def predicts_concepts(self, moment: Moment) -> bool:
        return -moment.noise <= self._until

    def concept_term(
        self, uncond: Tensor, prompt: Tensor, concept: Tensor, noise_per_output: Tensor
    ) -> Tensor:
        return self._strength * (concept - uncond)
