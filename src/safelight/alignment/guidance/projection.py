"""Guidance that removes concepts from the prompt embeddings."""

from __future__ import annotations

from typing import Any

from safelight import registry
from safelight.alignment.guidance.concepts import DEFAULT_CONCEPT, Concept
from safelight.alignment.guidance.guidance import Guidance
from safelight.alignment.guidance.hook import Moment


@registry.register("guidance", "prompt-projection")
class PromptProjection(Guidance):
    """The prompt embeddings without their projection onto the concepts.

    The component in the concepts' directions is removed from each token's embedding and from the pooled
    embedding of SDXL, Stable Diffusion 3 and FLUX. A direction leads from the mean of the empty text's
    embeddings to the last token of a concept; each comma-separated part of a concept has its own direction.
    SAFREE (Yoon et al. 2024, arXiv:2410.12761) has the idea, with pooled embeddings and for some tokens and
    steps only.

    The denoiser is called with no additional rows, so this takes next to no additional time, works in any
    pipeline, and needs no ``scale``. It removes what a prompt asks for, not what a model draws without being
    asked. The weight of a concept makes no difference unless it is 0. Other options are those of
    :class:`Guidance`.
    """

    name = "prompt projection"
    cost = 1
    edits_conditioning = True

    def __init__(self, concept: Concept = DEFAULT_CONCEPT, **options: Any) -> None:
        super().__init__(concept, **options)

    def predicts_concepts(self, moment: Moment) -> bool:
        return False
