"""Guidance that removes concepts from the prompt embeddings."""

from __future__ import annotations

from typing import Any

from safelight import registry
from safelight.alignment.guidance.concepts import DEFAULT_CONCEPT, Concept
from safelight.alignment.guidance.guidance import Guidance
from safelight.alignment.guidance.hook import Moment


@registry.register("guidance", "prompt-projection")
class PromptProjection(Guidance):
    """Removes the projection onto the concepts from the prompt embeddings.

    The component in the concepts' directions is removed from each token embedding and from the pooled
    embedding of SDXL, Stable Diffusion 3 and FLUX. A direction leads from the mean embedding of the empty
    prompt to the embedding of a concept's last token; each comma-separated part of a concept has its own
    direction. The idea is that of SAFREE (Yoon et al. 2024, arXiv:2410.12761), which uses pooled embeddings
    and projects only some tokens at some steps.

    The denoiser is called with no additional rows, so this takes almost no additional time, works in any
    pipeline, and needs no ``scale``. It removes what a prompt asks for, but not what a model generates
    without being asked. The weight of a concept has no effect unless it is 0. Other options are those of
    :class:`Guidance`.
    """

    name = "prompt projection"
    cost = 1
    edits_conditioning = True

    def __init__(self, concept: Concept = DEFAULT_CONCEPT, **options: Any) -> None:
        super().__init__(concept, **options)

    def predicts_concepts(self, moment: Moment) -> bool:
        return False
