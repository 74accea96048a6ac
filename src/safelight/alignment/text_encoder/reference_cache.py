"""What an encoder read before it was trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from safelight.alignment.delta.adapter import Adapter
from safelight.alignment.text_encoder.encoder import Reading, TextEncoder, joined

if TYPE_CHECKING:
    from torch import Tensor

# Of memory, for what was read.
_KEPT_BYTES = 2**30
_AT_ONCE = 128


class ReferenceCache:
    """The ``encoder`` without what its ``adapter`` has learnt, and the ``count`` batches of ``texts``.

    What it reads of a text is always the same, and the same texts come again and again: of all batches, or of
    as many on end as fit in memory, it reads each once. What is read of a batch depends on its number alone,
    bit for bit, for how many texts are read at once counts too. Where the layers before the one called
    ``layer`` never change, what that one is given is kept as well, to go on from.
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
        self._kept = range(0)
        self._rows: dict[str, int] = {}
        self._reading = Reading(None, None)

    def read(self, number: int, texts: Sequence[str]) -> Reading:
        """Some texts of the batch with this number."""
        which = self._which(number, texts)  # may read ahead
        return self._reading.rows(which)

    def read_now(self, number: int, texts: Sequence[str]) -> Reading:
        """The same with what the adapter has learnt, with gradients."""
        which = self._which(number, texts)
        if self._reading.given is None:
            return self._encoder.read(texts)
        return self._encoder.read_on(texts, self._layer, self._reading.given[which])

    def of(self, texts: Sequence[str]) -> Reading:
        """Of any texts; no text reads as nothing."""
        import torch

        parts = [texts[i : i + _AT_ONCE] for i in range(0, len(texts), _AT_ONCE)]
        with self._adapter.off(), torch.no_grad():
            return joined([self._read(part) for part in parts])

    def _read(self, texts: Sequence[str]) -> Reading:
        if not self._layer:
            return self._encoder.read(texts)
        return self._encoder.read_halfway(texts, self._layer)

    def _which(self, number: int, texts: Sequence[str]) -> Tensor:
        import torch

        if number not in self._kept:
            self._read_ahead(number)
        return torch.tensor([self._rows[text] for text in texts])

    def _read_ahead(self, number: int) -> None:
        first = number - number % self._together
        self._kept = range(first, min(first + self._together, self._count))
        texts = self._distinct(self._kept)
        self._reading = Reading(None, None)  # makes room
        self._rows = {text: row for row, text in enumerate(texts)}
        self._reading = self.of(texts)

    @cached_property
    def _together(self) -> int:
        """How many batches are read at once: all, or as many as fit however different their texts are."""
        some = self._texts(0)
        fitting = _KEPT_BYTES // self.of(some[:1]).size_bytes
        if len(self._distinct(range(self._count))) <= fitting:
            return self._count
        return max(1, fitting // len(some))

    def _distinct(self, batches: range) -> list[str]:
        return list(dict.fromkeys(text for number in batches for text in self._texts(number)))
