"""Lines of text are joined where they belong together, in the order in which they are read."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.filters.image.passages import Passage, passages
from safelight.filters.image.text_line import TextLine, box_around


def line(text: str, left: float, top: float, height: float = 20, angle: float = 0) -> TextLine:
    """A line of letters that are half as wide as high, in an image that was rotated around its corner."""
    width = len(text) * height / 2
    corners = np.array(
        [(left, top), (left + width, top), (left + width, top + height), (left, top + height)], np.float32
    )
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    return TextLine(corners @ np.array([[cosine, sine], [-sine, cosine]], np.float32), text, 1.0)


def texts(*lines: TextLine) -> list[str]:
    return sorted(passage.text for passage in passages(lines))


@pytest.mark.parametrize("angle", [0, 12, -14, 90, 180, 270])
def test_rows_are_read_from_the_top_in_any_orientation(angle: float) -> None:
    rows = [line("the third", 0, 50, angle=angle), line("one", 30, 0, angle=angle)]
    rows += [line("two and", 0, 25, angle=angle), line("a half", 90, 26, angle=angle)]
    assert texts(*rows) == ["one two and a half the third"]


@pytest.mark.parametrize(
    "other",
    [
        line("far right", 400, 0),
        line("far below", 150, 200),
        line("LARGE", 0, 22, height=60),
        line("rotated", 0, 30, angle=40),
    ],
    ids=lambda each: each.text,
)
def test_words_that_stand_apart_are_not_joined(other: TextLine) -> None:
    assert texts(line("somewhere", 0, 0), other) == sorted(["somewhere", other.text])


def test_captions_above_and_below_are_one_text() -> None:
    assert texts(line("how to make", 100, 10), line("a big cake", 105, 450)) == ["how to make a big cake"]


def test_columns_are_separate_texts() -> None:
    left = [line("a column of words", 0, y) for y in (0, 25, 50)]
    right = [line("another one beside", 260, y) for y in (0, 25, 50)]
    assert len(passages([*left, *right])) == 2


def test_parts_overlap_by_a_line() -> None:
    lines = tuple(line(word * 4, 0, 25 * i) for i, word in enumerate(["one ", "two ", "six ", "ten "]))
    parts = [part.text for part in Passage(lines).parts(35)]
    assert parts == [
        "one one one one two two two two",
        "two two two two six six six six",
        "six six six six ten ten ten ten",
    ]


@given(st.lists(st.text(st.characters(categories=["L", "N", "Zs"]), max_size=90), min_size=1, max_size=9))
def test_every_word_is_in_a_part_and_no_part_is_long(lines: list[str]) -> None:
    passage = Passage(tuple(line(text, 0, 25 * i) for i, text in enumerate(lines)))
    parts = list(passage.parts(60))
    assert all(len(part.text) <= 60 for part in parts)
    joined = "".join("".join(part.text.split()) for part in parts)
    assert all("".join(text.split())[:20] in joined for text in lines)
    assert all(a.lines[-1].text or b.lines for a, b in pairwise(parts))


_place = st.floats(0, 500, width=32)


@given(st.lists(st.tuples(_place, _place, st.floats(6, 90), st.floats(0, 360)), max_size=12))
def test_every_line_is_in_one_passage(places: list[tuple[float, float, float, float]]) -> None:
    lines = [line(str(i), left, top, height, angle) for i, (left, top, height, angle) in enumerate(places)]
    found = [each.text for passage in passages(lines) for each in passage.lines]
    assert sorted(found) == sorted(each.text for each in lines)


def test_the_box_is_around_all_lines_and_inside_the_image() -> None:
    lines = [line("ab", 10, 20), line("abcd", -5, 90)]
    box = box_around(lines, (100, 200))
    assert (box.left, box.top, box.right, box.bottom) == pytest.approx((0, 0.1, 0.35, 0.55))
