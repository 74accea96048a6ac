"""Pictures beside each other, each with some lines under it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SIDE = 192
_GAP, _LINE = 12, 18
_COLOURS = {"allow": "#2e7d32", "block": "#c62828", "review": "#b26a00", "blur": "#7b1fa2"}

Tile = tuple[Image.Image, Sequence[str]]


def save(name: str, tiles: Sequence[Tile]) -> None:
    """Writes ``name``.png beside this file."""
    lines = max(len(said) for _, said in tiles)
    sheet = Image.new("RGB", (len(tiles) * (SIDE + _GAP) + _GAP, SIDE + 2 * _GAP + lines * _LINE), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (image, said) in enumerate(tiles):
        left = _GAP + number * (SIDE + _GAP)
        sheet.paste(image.resize((SIDE, SIDE), Image.Resampling.NEAREST), (left, _GAP))
        for line, text in enumerate(said):
            colour = _COLOURS.get(text.split()[0].rstrip(":"), "#222222")
            draw.text((left, SIDE + 1.5 * _GAP + line * _LINE), text, colour, font)
    sheet.quantize(128).save(Path(__file__).with_name(f"{name}.png"), optimize=True)
