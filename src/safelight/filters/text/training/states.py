"""Token states of the training texts after the encoder's lower layers, which are frozen.

They are computed once and kept in a file, which makes every later training several times as fast: only the
upper layers run. Some texts have a misspelt version as well.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safelight.filters.text.training.network import PromptNetwork
from safelight.filters.text.training.tokens import PromptTokenizer, pad
from safelight.training.processes import device

# Returns the text with random misspellings.
Misspell = Callable[[str, random.Random], str]

# The share of texts with a misspelt version, which is then read every second time.
_MISSPELT_SHARE = 0.3
_SEED = 3
_BATCH_SIZE = 64
_STATES, _INDEX = "states.npy", "states-index.npz"


@dataclass(frozen=True, slots=True)
class TokenStates:
    """Token states of N texts.

    Those of version v are ``values[starts[v] : starts[v + 1]]``, (T, width), fp16. Version n of text n is as
    it is spelt; ``misspelt`` (N,) is the number of its misspelt version, or -1.
    """

    values: NDArray[np.float16]
    starts: NDArray[np.int64]
    misspelt: NDArray[np.int64]

    @classmethod
    def of(cls, prompts: Sequence[str], encoder: Path, misspell: Misspell, folder: Path) -> Self:
        """Return the states of the prompts; they are kept in ``folder`` and computed only once."""
        if not (folder / _INDEX).exists():
            _write(prompts, encoder, misspell, folder)
        index = np.load(folder / _INDEX)
        return cls(np.load(folder / _STATES, mmap_mode="r"), index["starts"], index["misspelt"])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each text as it is spelt, (N,)."""
        count = len(self.misspelt)
        lengths: NDArray[np.int64] = np.diff(self.starts[: count + 1])
        return lengths

    def versions(self, rows: Sequence[int], rng: np.random.Generator) -> list[int]:
        """Return a version of each text: the misspelt one, if it has one, every second time."""
        chosen = rng.random(len(rows)) < 0.5
        return [
            int(self.misspelt[row]) if other and self.misspelt[row] >= 0 else row
            for row, other in zip(rows, chosen, strict=True)
        ]

    def batch(self, versions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return padded states (N, T, width), fp32, and the attention mask (N, T)."""
        parts = [self.values[self.starts[v] : self.starts[v + 1]] for v in versions]
        longest = max(map(len, parts))
        states = np.zeros((len(parts), longest, self.values.shape[1]), np.float32)
        mask = np.zeros((len(parts), longest), np.int64)
        for row, part in enumerate(parts):
            states[row, : len(part)] = part
            mask[row, : len(part)] = 1
        return torch.from_numpy(states), torch.from_numpy(mask)


@torch.inference_mode()
def _write(prompts: Sequence[str], encoder: Path, misspell: Misspell, folder: Path) -> None:
    network = PromptNetwork.from_pretrained(encoder).eval().to(device())
    ids, misspelt = _read(prompts, PromptTokenizer(encoder), misspell)
    starts = np.concatenate([[0], np.cumsum([len(row) for row in ids])])
    folder.mkdir(parents=True, exist_ok=True)
    shape = (int(starts[-1]), network.head.in_features)
    values = np.lib.format.open_memmap(folder / _STATES, "w+", np.float16, shape)
    order = sorted(range(len(ids)), key=lambda version: len(ids[version]))
    for first in range(0, len(order), _BATCH_SIZE):
        versions = order[first : first + _BATCH_SIZE]
        tokens, mask = pad([ids[version] for version in versions])
        states = network.lower(tokens.to(device()), mask.to(device())).half().cpu().numpy()
        for version, rows in zip(versions, states, strict=True):
            values[starts[version] : starts[version + 1]] = rows[: len(ids[version])]
    values.flush()
    # Last, because its presence says that the states are complete.
    np.savez(folder / _INDEX, starts=starts, misspelt=misspelt)


def _read(
    prompts: Sequence[str], reader: PromptTokenizer, misspell: Misspell
) -> tuple[list[list[int]], NDArray[np.int64]]:
    """Return the token ids of every version, and the number of each text's misspelt one."""
    ids = [reader.ids(prompt) for prompt in prompts]
    spelling = random.Random(_SEED)
    misspelt = np.full(len(prompts), -1, np.int64)
    for row, prompt in enumerate(prompts):
        if spelling.random() < _MISSPELT_SHARE:
            misspelt[row] = len(ids)
            ids.append(reader.ids(misspell(prompt, spelling)))
    return ids, misspelt
