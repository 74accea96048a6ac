"""Negative prompts and negative guidance, which change harmless images as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from safelight import registry
from safelight.alignment.guidance.concepts import DEFAULT_CONCEPT, Concept
from safelight.alignment.guidance.guidance import Guidance
from safelight.alignment.guidance.hook import Moment
from safelight.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor


@registry.register("guidance", "negative-prompt")
class NegativePrompt(Guidance):
    """Uses the concept as negative prompt, ε_S + s (ε_p - ε_S), which takes no additional time.

    The pipeline must use classifier-free guidance. Several concepts are joined to one text, which is the same
    for all images of a call. Traces only record that every element was changed, since the prediction without
    the negative prompt is not computed.
    """

    name = "negative prompt"
    cost = 1
    concept_per_image = False

    def __init__(self, concept: str | Sequence[str] = DEFAULT_CONCEPT, **options: Any) -> None:
        super().__init__(concept, **options)
        if len(self.concepts) > 1:
            raise RequestError("a negative prompt is the same for all prompts; give one concept.")

    def predicts_concepts(self, moment: Moment) -> bool:
        return False

    def negative_prompt(self) -> str | None:
        return ", ".join(self.concepts[0])


@registry.register("guidance", "negative-guidance")
class NegativeGuidance(Guidance):
    """Subtracts the concept's term in classifier-free guidance at every step.

    The result is ε_0 + s (ε_p - ε_0) - s · ``strength`` · (ε_S - ε_0).
    """

    def __init__(self, strength: float = 1.0, concept: Concept = DEFAULT_CONCEPT, **options: Any) -> None:
        super().__init__(concept, **options)
        if not 0 <= strength < float("inf"):
            raise RequestError(f"strength is {strength}; it must be a finite number that is at least 0.")
        self.strength = strength
        self.name = f"negative guidance, {strength:g}"

    def predicts_concepts(self, moment: Moment) -> bool:
        return self.strength > 0

    def concept_term(
        self, uncond: Tensor, prompt: Tensor, concept: Tensor, noise_per_output: Tensor
    ) -> Tensor:
        return self.strength * (concept - uncond)
