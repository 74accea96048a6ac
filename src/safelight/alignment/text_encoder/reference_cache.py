"""A cache of an encoder's outputs before training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from safelight.alignment.delta.adapter import Adapter
from safelight.alignment.text_encoder.encoder import Reading, TextEncoder, joined

if TYPE_CHECKING:
    from torch import Tensor

# Largest size of the cached outputs, and the number of texts read in one call.
_MAX_BYTES = 2**30
_BATCH = 128


class ReferenceCache:
    """Caches the outputs of ``encoder`` without its ``adapter`` for ``count`` batches.

    ``texts`` returns the texts of the batch with a given number. The same texts occur in many batches, so
    each text of all batches, or of as many consecutive batches as fit in memory, is encoded once. The outputs
    for a batch depend only on its number, bit for bit, although rounding depends on how many texts are
    encoded together. If the layers before ``layer`` are not trained, the input of that layer is cached as
    well, and training continues from it.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        adapter: Adapter,
        texts: Callable[[int], Sequence[str]],
        count: int,
        layer: int = 0,
    ) -> None:
        self._encoder = encoder
        self._adapter = adapter
        self._texts = texts
        self._count = count
        self._layer = layer
        self._cached = range(0)
        self._rows: dict[str, int] = {}
        self._reading = Reading(None, None)

    def read(self, number: int, texts: Sequence[str]) -> Reading:
        """Return the frozen encoder's outputs for texts of the batch with this number."""
        which = self._which(number, texts)  # may encode the texts of a group of batches
        return self._reading.rows(which)

    def read_now(self, number: int, texts: Sequence[str]) -> Reading:
        """Return the outputs with the adapter, with gradients."""
        which = self._which(number, texts)
        if self._reading.input is None:
            return self._encoder.read(texts)
        return self._encoder.read_from(texts, self._layer, self._reading.input[which])

    def of(self, texts: Sequence[str]) -> Reading:
        """Return the frozen encoder's outputs for any texts; all of them are None if there are no texts."""
        import torch

        parts = [texts[i : i + _BATCH] for i in range(0, len(texts), _BATCH)]
        with self._adapter.off(), torch.no_grad():
            return joined([self._read(part) for part in parts])

    def _read(self, texts: Sequence[str]) -> Reading:
        if not self._layer:
            return self._encoder.read(texts)
        return self._encoder.read_with_input(texts, self._layer)

    def _which(self, number: int, texts: Sequence[str]) -> Tensor:
        import torch

        if number not in self._cached:
            self._read_group(number)
        return torch.tensor([self._rows[text] for text in texts])

    def _read_group(self, number: int) -> None:
        first = number - number % self._together
        self._cached = range(first, min(first + self._together, self._count))
        texts = self._distinct(self._cached)
        self._reading = Reading(None, None)  # frees the memory
        self._rows = {text: row for row, text in enumerate(texts)}
        self._reading = self.of(texts)

    @cached_property
    def _together(self) -> int:
        """Return how many batches are cached together: all, or as many as fit if all their texts differ."""
        some = self._texts(0)
        fitting = _MAX_BYTES // self.of(some[:1]).size_bytes
        if len(self._distinct(range(self._count))) <= fitting:
            return self._count
        return max(1, fitting // len(some))

    def _distinct(self, batches: range) -> list[str]:
        return list(dict.fromkeys(text for number in batches for text in self._texts(number)))
