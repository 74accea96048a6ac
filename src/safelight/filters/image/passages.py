"""Passages: lines of text in an image that belong together, joined in the order in which they are read.

Words that merely stand on the same image are not joined, because together they may mean something that
neither of them says. Two captions of one size on one axis, as above and below in a meme, are one passage.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from textwrap import wrap

from safelight.filters.image.text_line import TextLine

# In multiples of the smaller height: the largest gap between words of a row, and between rows.
_WORD_GAP, _ROW_GAP = 1.5, 1.0
# Largest ratios of heights: of lines that are close to each other, and of captions at any distance.
_HEIGHTS, _CAPTION_HEIGHTS = 2.0, 1.3
# The largest angle between lines of a passage.
_ANGLE = math.radians(15)
# Words of a row overlap in height by this share of the smaller height.
_OVERLAP = 0.5


@dataclass(frozen=True, slots=True)
class Passage:
    """Lines that belong together, in the order in which they are read."""

    lines: tuple[TextLine, ...]

    @property
    def text(self) -> str:
        return " ".join(line.text for line in self.lines)

    def parts(self, length: int) -> Iterator[Passage]:
        """Yield the passage in parts of at most ``length`` characters.

        Each part begins with the last line of the one before it, so that a phrase that runs over the end of a
        line is in one of the parts. A line of more than half the length counts as several.
        """
        part = Passage(())
        for line in self.lines:
            for piece in wrap(line.text, length // 2):
                longer = Passage((*part.lines, replace(line, text=piece)))
                if len(longer.text) > length:
                    yield part
                    longer = Passage(longer.lines[-2:])
                part = longer
        yield part


def passages(lines: Sequence[TextLine]) -> list[Passage]:
    """Return the passages that the lines form; every line is in one of them."""
    groups: list[list[TextLine]] = []
    for line in lines:
        joined = [group for group in groups if any(_belong_together(line, other) for other in group)]
        groups = [group for group in groups if group not in joined]
        groups.append([line, *(other for group in joined for other in group)])
    return [Passage(tuple(_in_reading_order(group))) for group in groups]


def _belong_together(one: TextLine, other: TextLine) -> bool:
    turn = (one.angle - other.angle + math.pi) % (2 * math.pi) - math.pi
    low, high = sorted((one.height, other.height))
    if abs(turn) > _ANGLE or high > _HEIGHTS * low:
        return False
    (x, y), (other_x, other_y) = (line.centre(one.angle) for line in (one, other))
    beside = abs(x - other_x) - (one.length + other.length) / 2
    below = abs(y - other_y) - (one.height + other.height) / 2
    if high <= _CAPTION_HEIGHTS * low and abs(x - other_x) <= low:
        return True
    return (beside <= _WORD_GAP * low and below <= -_OVERLAP * low) or (
        beside < 0 and below <= _ROW_GAP * low
    )


def _in_reading_order(lines: Sequence[TextLine]) -> Iterator[TextLine]:
    """Yield the lines row by row, and each row in its direction."""
    angle = _mean_angle(lines)
    places = {id(line): line.centre(angle) for line in lines}
    rows: list[list[TextLine]] = []
    for line in sorted(lines, key=lambda line: places[id(line)][1]):
        y = places[id(line)][1]
        if rows and y - median(places[id(other)][1] for other in rows[-1]) < _OVERLAP * line.height:
            rows[-1].append(line)
        else:
            rows.append([line])
    for row in rows:
        yield from sorted(row, key=lambda line: places[id(line)][0])


def _mean_angle(lines: Sequence[TextLine]) -> float:
    """Return the mean direction; long lines count more, because their angles are more exact."""
    x = sum(math.cos(line.angle) * line.length for line in lines)
    y = sum(math.sin(line.angle) * line.length for line in lines)
    return math.atan2(y, x)
