"""Overlapping tiles that cover a large or long image."""

from __future__ import annotations

import math

# The share of a tile that its neighbour covers as well, so that what is smaller is whole in one of them.
OVERLAP = 0.25
# Longer images have tiles even if they are small.
_LONG = 2.0
_GROWTH = 1.1

Tile = tuple[int, int, int, int]


def tiles(width: int, height: int, side: int, most: int) -> list[Tile]:
    """Return evenly spaced tiles (left, top, right, bottom) that cover an image, row by row.

    An image has tiles if it is larger than ``side`` pixels or more than twice as long as wide; otherwise the
    list is empty, as it is for an image without pixels. Tiles are at most ``side`` pixels long and at most
    twice as long as the image is narrow, or as much larger as is needed for no more than ``most`` of them.
    """
    if not width or not height:
        return []
    length = min(float(side), _LONG * min(width, height))
    while (columns := _count(width, length)) * (rows := _count(height, length)) > most:
        length *= _GROWTH
    if columns * rows == 1:
        return []
    return [
        (left, top, right, bottom)
        for top, bottom in _parts(height, rows)
        for left, right in _parts(width, columns)
    ]


def _count(whole: int, length: float) -> int:
    """Return how many overlapping parts of at most ``length`` cover the whole."""
    return max(1, math.ceil((whole - OVERLAP * length) / ((1 - OVERLAP) * length)))


def _parts(whole: int, count: int) -> list[tuple[int, int]]:
    """Return the first pixel of each part and the one after its last; neighbours overlap by ``OVERLAP``."""
    length = math.ceil(whole / (count - OVERLAP * (count - 1)))
    starts = [round(number * (whole - length) / max(1, count - 1)) for number in range(count)]
    return [(start, start + length) for start in starts]
