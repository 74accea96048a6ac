"""Moderation of images together with their prompts by a vision-language model. Off by default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from safelight.filters.image_judge import ImageJudge
from safelight.filters.questions import Case
from safelight.registry import register

if TYPE_CHECKING:
    from PIL.Image import Image


@register("pair_filter", "vision-language-model")
@dataclass(eq=False)
class VisionLanguageModel(ImageJudge["tuple[str, Image]"]):
    """Asks a vision-language model how likely an image and its prompt together belong to each category.

    ``answers`` is "json" (any model that follows instructions), "llama-guard", or "yes-no" (one request per
    category). Options and errors are those of ``ChatJudge`` and ``ImageJudge``.
    """

    name: str = "vision-language-model"

    def _case(self, item: tuple[str, Image]) -> Case:
        prompt, image = item
        return Case(prompt, self._data_url(image))
