"""Cross-validation by family: a classifier is measured only on families that it was not trained on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from safelight.errors import RequestError
from safelight.filters.text.training.grammar import Text

# Families that a classifier is trained on and never measured on: many prompts of I2P are benign and only
# their images were not; the others are statements and conversations, not prompts.
_UNMEASURED = frozenset({"i2p", "hatecheck", "openai_moderation"})


@dataclass(frozen=True, slots=True)
class Fold:
    """Two held-out families: one with ``harmful`` texts and one with only ``benign`` texts."""

    number: int
    harmful: str
    benign: str

    @property
    def name(self) -> str:
        """The name of the fold, for use as a file name."""
        return f"{self.number}-without-" + re.sub(r"\W+", "-", f"{self.harmful}-{self.benign}")

    def holds_out(self, text: Text) -> bool:
        return text.family in (self.harmful, self.benign)


def folds(texts: Sequence[Text]) -> Iterator[Fold]:
    """Yield a fold for each family with harmful texts, together with each benign family in turn.

    There is none for families whose labels are weak or whose texts are no prompts. Raises ``RequestError`` if
    fewer than two families with harmful texts are left, or none without.
    """
    families = {text.family for text in texts} - _UNMEASURED
    harmful = sorted({text.family for text in texts if text.categories} & families)
    benign = sorted(families - set(harmful))
    if len(harmful) < 2 or not benign:
        raise RequestError(
            "cross-validation needs harmful prompts from at least two sources and benign ones from another."
        )
    for number, family in enumerate(harmful):
        yield Fold(number, family, benign[number % len(benign)])
