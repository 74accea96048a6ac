"""An index of perceptual hashes for nearest-neighbour search by Hamming distance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHUNKS = 16
_KEYS = 1 << 16
# The masks that leave a chunk unchanged or flip one of its bits.
_FLIPS = np.array([0, *(1 << bit for bit in range(16))], np.uint16)
MAX_DISTANCE = 2 * _CHUNKS - 1


class HashIndex:
    """Finds every hash of 256 bits within 31 bits of a query, by multi-index hashing.

    Hashes that differ in at most 31 bits differ in at most one bit in some of their 16 chunks of 16, so
    looking up each chunk of the query, and its 16 neighbours, finds them all (Norouzi, Punjani & Fleet,
    "Fast Search in Hamming Space with Multi-Index Hashing", CVPR 2012, proposition 1).

    ``hashes`` is uint8, [n, 32].
    """

    def __init__(self, hashes: NDArray[np.uint8]) -> None:
        self._words = np.ascontiguousarray(hashes).view(np.uint64)
        chunks = self._words.view(np.uint16).T
        sizes = np.stack([np.bincount(chunk, minlength=_KEYS) for chunk in chunks])
        self._starts = np.pad(sizes.cumsum(axis=1), ((0, 0), (1, 0)))
        self._rows = np.stack([chunk.argsort(kind="stable").astype(np.uint32) for chunk in chunks])

    def __len__(self) -> int:
        return len(self._words)

    def closest(self, queries: NDArray[np.uint8], distance: int) -> tuple[int, int] | None:
        """Return the row of the hash closest to any of ``queries``, and its distance in bits.

        Of several, the first row is returned; None if no hash is within ``distance`` (at most 31) bits.
        ``queries`` is uint8, [m, 32].
        """
        rows, bits = self._compared(queries)
        if not len(bits) or bits.min() > distance:
            return None
        smallest = int(bits.min())
        return int(rows[bits == smallest].min()), smallest

    def near(self, queries: NDArray[np.uint8], distance: int) -> NDArray[np.int64]:
        """Return the sorted rows of all hashes within ``distance`` (at most 31) bits of any of ``queries``.

        ``queries`` is uint8, [m, 32].
        """
        rows, bits = self._compared(queries)
        return np.unique(rows[bits <= distance])

    def _compared(self, queries: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
        """Return the candidate rows and their distances to a query in bits."""
        words = np.ascontiguousarray(queries).view(np.uint64)
        every = np.arange(len(self))
        parts = [
            (every[rows], np.bitwise_count(self._words[rows] ^ words[query]) @ np.ones(4, np.uint16))
            for query, rows in self._candidates(words)
        ]
        rows, bits = (np.concatenate(part) for part in zip(*parts, strict=True))
        return rows, bits

    def _candidates(self, words: NDArray[np.uint64]) -> Iterator[tuple[Any, Any]]:
        """Yield queries and the rows to compare them with: two arrays, or one query and all rows."""
        keys = (words.view(np.uint16)[:, :, None] ^ _FLIPS).astype(np.intp)
        chunks = np.arange(_CHUNKS)[:, None]
        starts = self._starts[chunks, keys]
        counts = (self._starts[chunks, keys + 1] - starts).ravel()
        total = int(counts.sum())
        if total >= len(self):  # few or very similar hashes: comparing with all of them is cheaper
            yield from ((query, slice(None)) for query in range(len(words)))
            return
        firsts = (starts + chunks * len(self)).ravel()
        places = np.arange(total) + np.repeat(firsts - (counts.cumsum() - counts), counts)
        queries = np.arange(len(words)).repeat(counts.reshape(len(words), -1).sum(axis=1))
        yield queries, self._rows.ravel()[places]
