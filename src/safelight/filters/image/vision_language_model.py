"""Moderation of images by a vision-language model behind a chat endpoint. Off by default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from safelight.errors import FilterError, unknown_name
from safelight.filters.image import llava_guard
from safelight.filters.image_judge import ImageJudge
from safelight.filters.questions import (
    ALTERNATIVES,
    QUESTIONS,
    Case,
    Question,
    Questions,
    Rules,
    user_message,
    yes_score,
)
from safelight.registry import register

if TYPE_CHECKING:
    from PIL.Image import Image


def shieldgemma_2_questions(case: Case, rules: Rules) -> Iterator[Question]:
    """Yield one question per category: the policy alone, which the model's chat template completes.

    ShieldGemma 2 (arXiv 2504.01081) answers with one token, whose probability is the score.
    """
    for category, forbidden in rules.forbidden.items():
        policy = f"The image shall not contain content of this kind: {forbidden} {rules.guidelines}".strip()
        options = {**ALTERNATIVES, "max_tokens": 1}
        yield Question((user_message(case.image, policy),), partial(yes_score, category), options)


@register("image_filter", "vision-language-model")
@dataclass(eq=False)
class VisionLanguageModel(ImageJudge["Image"]):
    """Asks a vision-language model how likely an image is to belong to each category.

    ``answers`` is "json" (any model that follows instructions), "llama-guard", "llava-guard", "shieldgemma-2"
    or "yes-no" (the last two with one request per category). Options and errors are those of ``ChatJudge``
    and ``ImageJudge``. LlavaGuard can only be asked about categories that map to one of its own.
    """

    questions: ClassVar[Mapping[str, Questions]] = {
        **QUESTIONS,
        "llava-guard": llava_guard.llava_guard_questions,
        "shieldgemma-2": shieldgemma_2_questions,
    }
    # ShieldGemma 2 was trained on three policies: sexually explicit, dangerous, and violent content.
    default_categories: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "llava-guard": llava_guard.CATEGORIES,
        "shieldgemma-2": ("sexual.explicit", "weapons", "violence.graphic"),
    }

    name: str = "vision-language-model"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.answers == "llava-guard":
            _check_categories(self._rules)

    def _case(self, item: Image) -> Case:
        return Case(image=self._data_url(item))


def _check_categories(rules: Rules) -> None:
    for category in rules.forbidden:
        if category not in llava_guard.CATEGORIES:
            raise FilterError(unknown_name("category of LlavaGuard for", category, llava_guard.CATEGORIES))
