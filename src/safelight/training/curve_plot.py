"""Plots of loss curves: one panel for each training, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from safelight.training.curve import load_points

_WIDTH, _HEIGHT, _MARGIN = 480, 300, 48
_INK, _LINE, _GRID = (60, 56, 64), (190, 60, 50), (226, 222, 216)


def draw_curves(paths: Sequence[Path], out: Path) -> None:
    """Draw the curves saved at ``paths`` side by side, and save a PNG."""
    sheet = Image.new("RGB", (_WIDTH * len(paths), _HEIGHT), "white")
    for column, path in enumerate(paths):
        title = path.name.removesuffix(".curve.json")
        sheet.paste(_panel(title, load_points(path)), (column * _WIDTH, 0))
    sheet.save(out)


def _panel(title: str, points: Sequence[tuple[int, float]]) -> Image.Image:
    panel = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw = ImageDraw.Draw(panel)
    draw.text((_MARGIN, 12), f"{title}: training loss over steps", fill=_INK)
    if len(points) < 2:
        return panel
    steps, losses = zip(*((max(1, step), loss) for step, loss in points), strict=True)
    x, y = _Axis(steps, _MARGIN, _WIDTH - 16), _Axis(losses, _HEIGHT - _MARGIN, 40)
    for value in (min(steps), max(steps)):
        draw.text((x(value) - 10, _HEIGHT - _MARGIN + 6), str(value), fill=_INK)
    for value in (min(losses), max(losses)):
        draw.line((_MARGIN, y(value), _WIDTH - 16, y(value)), fill=_GRID)
        draw.text((4, y(value) - 6), f"{value:.3g}", fill=_INK)
    draw.line([(x(s), y(v)) for s, v in zip(steps, losses, strict=True)], fill=_LINE, width=2)
    return panel


class _Axis:
    """Maps the logarithm of a value to a position in pixels."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low, self.high = math.log(min(values)), math.log(max(values))
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        share = (math.log(value) - self.low) / max(self.high - self.low, 1e-9)
        return self.start + share * (self.end - self.start)
