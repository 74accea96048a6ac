"""What a prompt asks for is taken out of what the network is told of it."""

from __future__ import annotations

from typing import Any

from safelight import registry
from safelight.alignment.guidance.concepts import DEFAULT_CONCEPT, Concept
from safelight.alignment.guidance.guidance import Guidance
from safelight.alignment.guidance.hook import Moment


@registry.register("guidance", "prompt-projection")
class PromptProjection(Guidance):
    """The prompt less its projection on the concepts: the network draws the rest of it.

    Each word's state loses what it has of the concepts' directions, and so does what stands for the whole
    text (SDXL, Stable Diffusion 3, FLUX). A direction is where the last token of a concept lies, seen from
    the mean of no text; of a concept with commas in it each part has its own. SAFREE (Yoon et al. 2024,
    arXiv:2410.12761) has the idea, with pooled embeddings and for some tokens and steps only.

    The network is asked about nothing more, so it costs next to nothing, in any pipeline, and needs no
    ``scale``. It leaves out what a prompt asks for, not what a model draws unasked. How much a concept counts
    makes no difference unless it is 0. The rest is as in :class:`Guidance`.
    """

    name = "prompt projection"
    edits_conditioning = True

    def __init__(self, concept: Concept = DEFAULT_CONCEPT, **options: Any) -> None:
        super().__init__(concept, **options)

    def looks(self, moment: Moment) -> bool:
        return False
