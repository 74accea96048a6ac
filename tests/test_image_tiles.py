from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from safelight.images.tiles import OVERLAP, tiles

LENGTHS = st.integers(1, 5000)


@given(LENGTHS, LENGTHS, st.integers(64, 1024), st.integers(1, 64))
def test_tiles_cover_the_image_and_are_no_more_than_allowed(
    width: int, height: int, side: int, most: int
) -> None:
    found = tiles(width, height, side, most)
    assert len(found) <= most
    assert len(found) != 1
    covered = np.zeros((height, width), bool)
    for left, top, right, bottom in found:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        covered[top:bottom, left:right] = True
    assert covered.all() or not found


@given(st.integers(2, 20), st.integers(600, 4000))
def test_neighbours_overlap(columns: int, width: int) -> None:
    found = tiles(width, 500, 512, 64)
    for (_, _, right, _), (left, _, end, _) in pairwise(found):
        assert right - left >= OVERLAP * (end - left) - 2


def test_ordinary_images_have_no_tiles() -> None:
    for size in ((512, 512), (512, 256), (1, 1), (2, 1), (300, 200), (0, 0), (0, 900)):
        assert tiles(*size, side=512, most=16) == []


def test_large_and_long_images_have_tiles() -> None:
    counts = {
        (768, 768): 4,
        (1024, 1024): 9,
        (4096, 4096): 16,
        (513, 512): 2,
        (500, 200): 2,
        (60, 900): 10,
        (60, 3000): 16,
        (1, 65536): 16,
        (800, 12000): 16,
    }
    assert {size: len(tiles(*size, side=512, most=16)) for size in counts} == counts
    for size, count in counts.items():
        assert len(tiles(size[1], size[0], side=512, most=16)) == count


def test_the_tiles_of_an_image_of_768_pixels() -> None:
    assert tiles(768, 768, side=512, most=16) == [
        (0, 0, 439, 439),
        (329, 0, 768, 439),
        (0, 329, 439, 768),
        (329, 329, 768, 768),
    ]
