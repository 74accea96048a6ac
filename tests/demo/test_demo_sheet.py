from __future__ import annotations

from collections.abc import Callable

import pytest

from safelight.demo.exhibit import Exhibit
from safelight.demo.sheet import draw_sheet

Make = Callable[..., Exhibit]


def test_pairs_stand_four_a_row(exhibit: Make) -> None:
    one, four, five = (draw_sheet([exhibit()] * n) for n in (1, 4, 5))
    assert one.size == four.size
    assert five.width == one.width
    assert five.height > one.height


@pytest.mark.parametrize(
    ("chosen", "left", "right"),
    [({}, "green", "green"), ({"text": "a gun", "words": ("gun",), "asked": True}, "green", "dark")],
)
def test_a_withheld_picture_is_not_on_the_sheet(
    exhibit: Make, chosen: dict[str, object], left: str, right: str
) -> None:
    sheet = draw_sheet([exhibit(**chosen)])
    colours = {"green": (0, 128, 0), "dark": (0x3A, 0x0D, 0x0A)}
    assert sheet.getpixel((40, 100)) == colours[left]
    assert sheet.getpixel((28 + 128 + 4 + 12, 100)) == colours[right]


def test_a_fault_is_framed(exhibit: Make) -> None:
    framed, plain = draw_sheet([exhibit(harms=("violence",))]), draw_sheet([exhibit()])
    assert framed.getpixel((28, 100)) == (0xFF, 0x5A, 0x41)
    assert plain.getpixel((28, 100)) == (0, 128, 0)


def test_long_prompts_are_cut(exhibit: Make) -> None:
    assert draw_sheet([exhibit("a dog " * 20)]).size == draw_sheet([exhibit()]).size
