from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from safelight.hashing.hash_index import MAX_DISTANCE, HashIndex

Hashes = NDArray[np.uint8]


def _random(rng: np.random.Generator, count: int) -> Hashes:
    return rng.integers(0, 256, (count, 32), dtype=np.uint8)


def _flipped(hashed: Hashes, bits: Any) -> Hashes:
    unpacked = np.unpackbits(hashed)
    unpacked[bits] ^= 1
    return np.packbits(unpacked)


def _brute(hashes: Hashes, queries: Hashes, distance: int) -> tuple[int, int] | None:
    counts = (np.bitwise_count(hashes.view(np.uint64) ^ query.view(np.uint64)) for query in queries)
    bits = np.stack([count.sum(axis=1) for count in counts]).min(axis=0)
    row = int(bits.argmin())
    return (row, int(bits[row])) if bits[row] <= distance else None


@pytest.fixture(scope="module")
def million() -> Hashes:
    return _random(np.random.default_rng(0), 1_000_000)


def test_a_million_hashes_are_searched_as_by_comparing_with_each(million: Hashes) -> None:
    rng = np.random.default_rng(1)
    index = HashIndex(million)
    for bits in (0, 16, 31, 32):
        row = int(rng.integers(len(million)))
        queries = _random(rng, 8)
        queries[5] = _flipped(million[row], rng.permutation(256)[:bits])
        found = index.closest(queries, MAX_DISTANCE)
        assert found == _brute(million, queries, MAX_DISTANCE)
        assert found == ((row, bits) if bits <= 31 else None)


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(0, 31), st.booleans())
def test_the_closest_is_found_however_the_bits_are_spread(
    seed: int, count: int, distance: int, even: bool
) -> None:
    """Differences spread evenly over the chunks are the hardest: no chunk is the same."""
    rng = np.random.default_rng(seed)
    hashes = np.concatenate([_random(rng, 4000), _random(rng, count)])
    spread = np.arange(16) * 16 + rng.integers(0, 16, 16)
    more = rng.permutation(np.setdiff1d(np.arange(256), spread))
    bits = np.concatenate([spread, more])[:distance] if even else rng.permutation(256)[:distance]
    queries = _flipped(hashes[rng.integers(len(hashes))], bits)[None]
    index = HashIndex(hashes)
    assert index.closest(queries, MAX_DISTANCE) == _brute(hashes, queries, MAX_DISTANCE)
    if distance:
        assert index.closest(queries, distance - 1) is None


def test_31_bits_with_two_in_every_chunk_but_one_are_found_and_32_are_not() -> None:
    hashes = _random(np.random.default_rng(0), 5000)
    pairs = np.arange(32) * 8 + 3
    index = HashIndex(hashes)
    assert index.closest(_flipped(hashes[77], pairs[:31])[None], 31) == (77, 31)
    assert index.closest(_flipped(hashes[77], pairs)[None], 31) is None


def test_hashes_that_are_all_alike_are_no_worse_than_comparing_with_each() -> None:
    rng = np.random.default_rng(0)
    alike = np.stack([_flipped(np.zeros(32, np.uint8), rng.permutation(256)[:4]) for _ in range(2000)])
    index, queries = HashIndex(alike), alike[[1500, 40]]
    assert index.closest(queries, 31) == _brute(alike, queries, 31)
    assert index.closest(~queries, 31) is None


def test_no_hashes_have_no_closest() -> None:
    assert HashIndex(np.zeros((0, 32), np.uint8)).closest(np.zeros((8, 32), np.uint8), 31) is None
