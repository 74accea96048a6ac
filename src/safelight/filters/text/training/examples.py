"""Examples to train on: labelled texts, drawn so that no source and no side outweighs the others."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safelight.filters.text.classifier import load_restorer, load_tokenizer
from safelight.filters.text.folding import Folded
from safelight.filters.text.training.folds import WEAK
from safelight.filters.text.training.grammar import Text
from safelight.filters.text.training.network import CATEGORIES

# Misspells a text in a random way.
Misspell = Callable[[str, random.Random], str]

_WEAK_SHARE = 0.5
# A source counts by the square root of its size, up to so many texts.
_COUNTED = 6000
_MISSPELT = 0.15
# Tokens: few prompts are longer, and cost grows with the longest of a batch.
_LONGEST = 98
# A batch is one of so many parts of a larger one, sorted by length: little of it is padding.
_LENGTHS = 4


class Reader:
    """Token ids of a text, folded and restored as the filter reads it, but only its beginning."""

    def __init__(self, encoder: Path) -> None:
        self._tokenizer = load_tokenizer(encoder)
        self._tokenizer.enable_truncation(_LONGEST)
        self._restorer = load_restorer(self._tokenizer)

    def ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(self._restorer.restore(Folded(text)).text).ids
        return ids


class Examples:
    """``texts`` grouped by family and side."""

    def __init__(self, texts: Sequence[Text], reader: Reader, misspell: Misspell) -> None:
        self.texts, self.reader = texts, reader
        self._misspell = misspell
        self.groups: dict[tuple[str, bool], list[int]] = {}
        for row, text in enumerate(texts):
            self.groups.setdefault((text.family, bool(text.categories)), []).append(row)
        self._share = self._shares()

    def _shares(self) -> dict[tuple[str, bool], float]:
        """How often each group is drawn: both sides alike."""
        size = {
            group: min(len(rows), _COUNTED) ** 0.5 * (_WEAK_SHARE if group[0] in WEAK else 1)
            for group, rows in self.groups.items()
        }
        side = {harmful: sum(size[g] for g in size if g[1] == harmful) for harmful in (True, False)}
        return {group: size[group] / (2 * side[group[1]]) for group in size}

    def weights(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """For each of ``rows``, how much it counts if every group counts as often as it is drawn; mean 1."""
        groups = [(self.texts[row].family, bool(self.texts[row].categories)) for row in rows]
        present = {group: groups.count(group) for group in set(groups)}
        weights: NDArray[np.float64] = np.array([self._share[group] / present[group] for group in groups])
        weights /= weights.mean()
        return weights

    def draw(self, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Token ids and mask (size, T) and targets (size, 1 + categories) of texts of like length."""
        groups = list(self.groups)
        chosen = rng.choice(len(groups), size * _LENGTHS, p=[self._share[group] for group in groups])
        rows = [self.groups[groups[k]][rng.integers(len(self.groups[groups[k]]))] for k in chosen]
        spelling = random.Random(int(rng.integers(2**32)))
        read = sorted(((self._read(row, spelling), row) for row in rows), key=lambda pair: len(pair[0]))
        part = slice(start := size * int(rng.integers(_LENGTHS)), start + size)
        ids, picked = zip(*read[part], strict=True)
        return *padded(ids), torch.tensor(np.stack([target(self.texts[row]) for row in picked]))

    def _read(self, row: int, rng: random.Random) -> list[int]:
        text = self.texts[row].prompt
        if rng.random() < _MISSPELT:
            text = self._misspell(text, rng)
        return self.reader.ids(text)


def padded(ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids and mask, (N, T)."""
    longest = max(map(len, ids))
    rows = torch.tensor([[*row, *[0] * (longest - len(row))] for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
    return rows, mask


def target(text: Text) -> NDArray[np.float32]:
    """Harmful or not, then each category: (1 + categories,)."""
    named = [category in text.categories for category in CATEGORIES]
    return np.array([bool(text.categories), *named], np.float32)
