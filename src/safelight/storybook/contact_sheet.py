"""The contact sheet of the storybook world: every object in every style."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from safelight.storybook.plan import Plan
from safelight.storybook.scene import SIZE_PX, draw_scene
from safelight.storybook.vocabulary import LABELS, PLACES, STYLES

_ENLARGED = 2
_TILE = SIZE_PX * _ENLARGED + 6
_LABEL_PX = 18


def contact_sheet(labels: Sequence[str] = LABELS, columns: int = 4) -> Image.Image:
    """Return an image of each object once in every style, enlarged, in varying places."""
    rows = -(-len(labels) // columns)
    width, height = len(STYLES) * _TILE, _TILE + _LABEL_PX
    sheet = Image.new("RGB", (columns * (width + 10), rows * height), "white")
    for i, label in enumerate(labels):
        sheet.paste(_strip(label, i, width), (i % columns * (width + 10), i // columns * height))
    return sheet


def _strip(label: str, number: int, width: int) -> Image.Image:
    strip = Image.new("RGB", (width, _TILE + _LABEL_PX), "white")
    ImageDraw.Draw(strip).text((4, 3), label, fill=(40, 36, 44))
    places = tuple(PLACES)
    for column, style in enumerate(STYLES):
        plan = Plan((label,), (), places[(number + column) % len(places)], style)
        image = draw_scene(plan, f"contact sheet {label} {style}").image
        strip.paste(
            image.resize((_TILE - 6, _TILE - 6), Image.Resampling.NEAREST), (column * _TILE, _LABEL_PX)
        )
    return strip


def save_contact_sheet(path: Path) -> None:
    contact_sheet().save(path, optimize=True)
