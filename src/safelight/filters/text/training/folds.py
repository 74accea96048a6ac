"""Leaving families out: only a family that was never trained on tells how good a classifier is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from safelight.errors import RequestError
from safelight.filters.text.training.grammar import Text

# Families whose labels are weak: many texts of I2P read benign, only their images were not.
WEAK = frozenset({"i2p"})


@dataclass(frozen=True, slots=True)
class Fold:
    """``harmful`` texts are caught or not, and texts of both families pass or not; none is trained on."""

    number: int
    harmful: str
    benign: str

    @property
    def name(self) -> str:
        """A file name."""
        return f"{self.number}-without-" + re.sub(r"\W+", "-", f"{self.harmful}-{self.benign}")

    def holds_out(self, text: Text) -> bool:
        return text.family in (self.harmful, self.benign)


def folds(texts: Sequence[Text]) -> Iterator[Fold]:
    """One for each family with harmful texts, with one of the families that have none, in turn.

    Those with weak labels come last, so that they leave no harmless family to themselves. Raises
    ``RequestError`` for fewer than two families with harmful texts or none without.
    """
    harmful = sorted(
        {text.family for text in texts if text.categories}, key=lambda name: (name in WEAK, name)
    )
    benign = sorted({text.family for text in texts} - set(harmful))
    if len(harmful) < 2 or not benign:
        raise RequestError(
            "leaving families out takes harmful prompts of two sources and harmless ones of a third at least."
        )
    for number, family in enumerate(harmful):
        yield Fold(number, family, benign[number % len(benign)])
