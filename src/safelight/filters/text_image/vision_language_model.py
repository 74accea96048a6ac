"""A vision-language model as judge of a picture and its prompt together. Off by default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from safelight.filters.picture_judge import PictureJudge
from safelight.filters.questions import Case
from safelight.registry import register

if TYPE_CHECKING:
    from PIL.Image import Image


@register("pair_filter", "vision-language-model")
@dataclass(eq=False)
class VisionLanguageModel(PictureJudge["tuple[str, Image]"]):
    """Judges what picture and prompt say together; ``answers`` is "json" (any model that follows
    instructions), "llama-guard", or "yes-no" (one request a category).

    Options and errors are those of ``ChatJudge`` and ``PictureJudge``.
    """

    name: str = "vision-language-model"

    def _case(self, item: tuple[str, Image]) -> Case:
        prompt, picture = item
        return Case(prompt, self._url(picture))
