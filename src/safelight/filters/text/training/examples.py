"""Training examples: labelled texts, sampled so that sources and harmful and benign texts are balanced."""

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

# Returns the text with random misspellings.
Misspell = Callable[[str, random.Random], str]

_WEAK_SHARE = 0.5
# A source is weighted by the square root of its size, up to this many texts.
_MAX_COUNTED = 6000
_MISSPELT_SHARE = 0.15
# In tokens. Few prompts are longer, and the cost of a batch grows with its longest text.
_MAX_TOKENS = 98
# To keep padding low, this many times the batch size is sampled and sorted by length, and one part of it
# becomes the batch.
_BUCKETS = 4


class PromptTokenizer:
    """Tokenises texts, folded and restored as the filter reads them, and truncates them."""

    def __init__(self, encoder: Path) -> None:
        self._tokenizer = load_tokenizer(encoder)
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._restorer = load_restorer(self._tokenizer)

    def ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(self._restorer.restore(Folded(text)).text).ids
        return ids


class Examples:
    """Texts grouped by family and by whether they are harmful."""

    def __init__(self, texts: Sequence[Text], reader: PromptTokenizer, misspell: Misspell) -> None:
        self.texts, self.reader = texts, reader
        self._misspell = misspell
        self.groups: dict[tuple[str, bool], list[int]] = {}
        for row, text in enumerate(texts):
            self.groups.setdefault((text.family, bool(text.categories)), []).append(row)
        self._share = self._shares()

    def _shares(self) -> dict[tuple[str, bool], float]:
        """Return the sampling probability of each group; harmful and benign groups sum to one half each."""
        size = {
            group: min(len(rows), _MAX_COUNTED) ** 0.5 * (_WEAK_SHARE if group[0] in WEAK else 1)
            for group, rows in self.groups.items()
        }
        side = {harmful: sum(size[g] for g in size if g[1] == harmful) for harmful in (True, False)}
        return {group: size[group] / (2 * side[group[1]]) for group in size}

    def weights(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the weight of each of ``rows``, with mean 1.

        The total weights of the groups are proportional to their sampling probabilities.
        """
        groups = [(self.texts[row].family, bool(self.texts[row].categories)) for row in rows]
        present = {group: groups.count(group) for group in set(groups)}
        weights: NDArray[np.float64] = np.array([self._share[group] / present[group] for group in groups])
        weights /= weights.mean()
        return weights

    def sample_batch(self, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Sample a batch of texts of similar length.

        Returns token ids and attention mask (size, T) and targets (size, 1 + categories).
        """
        groups = list(self.groups)
        chosen = rng.choice(len(groups), size * _BUCKETS, p=[self._share[group] for group in groups])
        rows = [self.groups[groups[k]][rng.integers(len(self.groups[groups[k]]))] for k in chosen]
        spelling = random.Random(int(rng.integers(2**32)))
        read = sorted(((self._read(row, spelling), row) for row in rows), key=lambda pair: len(pair[0]))
        part = slice(start := size * int(rng.integers(_BUCKETS)), start + size)
        ids, picked = zip(*read[part], strict=True)
        return *pad(ids), torch.tensor(np.stack([target(self.texts[row]) for row in picked]))

    def _read(self, row: int, rng: random.Random) -> list[int]:
        text = self.texts[row].prompt
        if rng.random() < _MISSPELT_SHARE:
            text = self._misspell(text, rng)
        return self.reader.ids(text)


def pad(ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return padded token ids and the attention mask, (N, T)."""
    longest = max(map(len, ids))
    rows = torch.tensor([[*row, *[0] * (longest - len(row))] for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
    return rows, mask


def target(text: Text) -> NDArray[np.float32]:
    """Return the target of a text: whether it is harmful, then each category, (1 + categories,)."""
    named = [category in text.categories for category in CATEGORIES]
    return np.array([bool(text.categories), *named], np.float32)
