"""Targets of the prompt classifier: what is to be learnt of each text, and how much of it is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from safelight.filters.text.training.grammar import Text
from safelight.filters.text.training.network import CATEGORIES

# The weight of categories that were translated from a source's own names: CoProV2 calls hate what is
# harassment, violence or crime here.
_TRANSLATED_WEIGHT = 0.25


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets of N texts.

    ``harm`` (N,) is the probability that a text is harmful, ``categories`` (N, C) that of each category if it
    is. ``weights`` (N,) tell how far the categories are known: 0 for harmless texts and where none is known.
    Texts that are not ``kept`` (N,) are labelled wrongly and not trained on.
    """

    harm: NDArray[np.float32]
    categories: NDArray[np.float32]
    weights: NDArray[np.float32]
    kept: NDArray[np.bool_]

    @classmethod
    def from_labels(cls, texts: Sequence[Text]) -> Self:
        harmful = np.array([bool(text.categories) for text in texts])
        named = [[category in text.categories for category in CATEGORIES] for text in texts]
        categories = np.array(named, np.float32).reshape(len(texts), len(CATEGORIES))
        weights = np.where(is_precise(texts), 1.0, _TRANSLATED_WEIGHT) * categories.any(1)
        return cls(
            harmful.astype(np.float32), categories, weights.astype(np.float32), np.full(len(texts), True)
        )

    def of(self, rows: NDArray[np.int64]) -> Self:
        """Return the targets of some of the texts."""
        return type(self)(self.harm[rows], self.categories[rows], self.weights[rows], self.kept[rows])

    def save(self, path: Path) -> None:
        save_file({name: getattr(self, name) for name in self.__slots__}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls(**load_file(path))


def is_precise(texts: Sequence[Text]) -> NDArray[np.bool_]:
    """Return whether each text was labelled with the taxonomy's categories (N,)."""
    return np.array([text.precise for text in texts])
