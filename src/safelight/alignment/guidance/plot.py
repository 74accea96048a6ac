"""Plots of traces: where guidance acted, how strongly, and how similar prompt and concept are."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from safelight.types import TraceStep

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 420, 180, 34, 12, 34, 24
_INK, _GRID = (60, 56, 64), (226, 222, 216)
_COLOURS = {"acting": (226, 160, 140), "strength": (150, 40, 40), "cosine": (40, 90, 170)}
_SAYS = {"acting": "share changed", "strength": "strength", "cosine": "cosine to the concept"}


def draw_trace(steps: Sequence[TraceStep]) -> Image.Image:
    """Draw bars for the share of changed elements and lines for strength and cosine, from 0 to 1."""
    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    for share in (0.0, 0.5, 1.0):
        draw.line((_LEFT, _y(share), _WIDTH - _RIGHT, _y(share)), fill=_GRID)
        draw.text((8, _y(share) - 7), f"{share:g}", _INK, font)
    left = float(_LEFT)
    for name, says in _SAYS.items():
        draw.text((left, 8), says, _COLOURS[name], font)
        left += draw.textlength(says, font) + 18
    if not any(step.acting for step in steps):
        draw.text((_LEFT + 90, _y(0.6)), "nothing was changed", _INK, font)
    wide = (_WIDTH - _LEFT - _RIGHT) / max(1, len(steps))
    middles = [_LEFT + (number + 0.5) * wide for number in range(len(steps))]
    for middle, step in zip(middles, steps, strict=True):
        box = (middle - 0.35 * wide, _y(step.acting), middle + 0.35 * wide, _y(0.0))
        draw.rectangle(box, fill=_COLOURS["acting"] if step.acting else None)
    for name in ("strength", "cosine"):
        points = [(x, _y(getattr(step, name))) for x, step in zip(middles, steps, strict=True)]
        draw.line(points, fill=_COLOURS[name], width=2)
    draw.text((_LEFT, _HEIGHT - 18), f"{len(steps)} steps, from noise to image", _INK, font)
    return image


def _y(value: float) -> float:
    return _HEIGHT - _BOTTOM - min(1.0, max(0.0, value)) * (_HEIGHT - _TOP - _BOTTOM)
