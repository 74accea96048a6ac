"""Moderation of prompts by a language model behind an OpenAI-compatible chat endpoint. Off by default."""

from __future__ import annotations

from dataclasses import dataclass

from safelight.filters.chat import ChatJudge
from safelight.filters.questions import Case
from safelight.registry import register


@register("prompt_filter", "language-model")
@dataclass(eq=False)
class LanguageModel(ChatJudge[str]):
    """Asks a language model how likely a prompt is to belong to each category.

    ``answers`` is "json" (any model that follows instructions), "llama-guard", or "yes-no" (ShieldGemma; one
    request per category). Options and errors are those of ``ChatJudge``.
    """

    name: str = "language-model"

    def _case(self, item: str) -> Case:
        return Case(prompt=item)
