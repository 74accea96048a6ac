"""Leaving families out: only a family that was never trained on tells how good a classifier is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from safelight.errors import RequestError
from safelight.filters.text.training.grammar import Text


@dataclass(frozen=True, slots=True)
class Fold:
    """``harmful`` texts are caught or not, and texts of both families pass or not; none is trained on."""

    harmful: str
    benign: str

    @property
    def name(self) -> str:
        return f"without-{self.harmful}-{self.benign}"

    def holds_out(self, text: Text) -> bool:
        return text.family in (self.harmful, self.benign)


def folds(texts: Sequence[Text]) -> Iterator[Fold]:
    """One for each family with harmful texts, with one of the families that have none, in turn.

    Raises ``RequestError`` for fewer than two of the first or none of the second.
    """
    harmful = sorted({text.family for text in texts if text.categories})
    benign = sorted({text.family for text in texts} - set(harmful))
    if len(harmful) < 2 or not benign:
        raise RequestError(
            "leaving families out takes harmful prompts of two sources and harmless ones of a third at least."
        )
    for number, family in enumerate(harmful):
        yield Fold(family, benign[number % len(benign)])
