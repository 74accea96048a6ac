"""Reads texts for training: token ids of the texts as the filter reads them, padded to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from safelight.filters.text.classifier import load_restorer, load_tokenizer
from safelight.filters.text.folding import Folded

# In tokens. Few prompts are longer, and the cost of a batch grows with its longest text.
_MAX_TOKENS = 98


class PromptTokenizer:
    """Tokenises texts, folded and restored as the filter reads them, and truncates them."""

    def __init__(self, encoder: Path) -> None:
        self._tokenizer = load_tokenizer(encoder)
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._restorer = load_restorer(self._tokenizer)

    def ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(self._restorer.restore(Folded(text)).text).ids
        return ids


def pad(ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return padded token ids and the attention mask, (N, T)."""
    longest = max(map(len, ids))
    rows = torch.tensor([[*row, *[0] * (longest - len(row))] for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
    return rows, mask
