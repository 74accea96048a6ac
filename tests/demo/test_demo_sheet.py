from __future__ import annotations

from collections.abc import Callable

import pytest

from safelight.demo.item import DemoItem
from safelight.demo.sheet import draw_sheet

Make = Callable[..., DemoItem]


def test_pairs_stand_four_a_row(item: Make) -> None:
    one, four, five = (draw_sheet([item()] * n) for n in (1, 4, 5))
    assert one.size == four.size
    assert five.width == one.width
    assert five.height > one.height


@pytest.mark.parametrize(
    ("chosen", "left", "right"),
    [({}, "green", "green"), ({"text": "a gun", "words": ("gun",), "asked": True}, "green", "dark")],
)
def test_a_withheld_image_is_not_on_the_sheet(
    item: Make, chosen: dict[str, object], left: str, right: str
) -> None:
    sheet = draw_sheet([item(**chosen)])
    colours = {"green": (0, 128, 0), "dark": (0x3A, 0x0D, 0x0A)}
    assert sheet.getpixel((40, 100)) == colours[left]
    assert sheet.getpixel((28 + 128 + 4 + 12, 100)) == colours[right]


def test_a_fault_is_framed(item: Make) -> None:
    framed, plain = draw_sheet([item(harms=("violence",))]), draw_sheet([item()])
    assert framed.getpixel((28, 100)) == (0xFF, 0x5A, 0x41)
    assert plain.getpixel((28, 100)) == (0, 128, 0)


def test_long_prompts_are_cut(item: Make) -> None:
    assert draw_sheet([item("a dog " * 20)]).size == draw_sheet([item()]).size
