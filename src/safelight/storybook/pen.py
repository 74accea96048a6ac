"""The pen: draws vector shapes, given in an object's unit square, on an image through an affine map.

Every shape becomes a polygon, so rotation, mirroring and scaling need no special cases, and the pen knows the
exact extent of what it has drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Point = tuple[float, float]
Colour = tuple[int, int, int]

INK: Colour = (38, 34, 44)


@dataclass(frozen=True)
class Frame:
    """The position of an object's unit square on the canvas, in canvas pixels with y pointing down.

    ``left`` and ``top`` place the upright square's corner, ``size`` is its side, ``angle`` turns it
    about its centre (radians, clockwise) and ``mirrored`` flips it left to right before that.
    """

    left: float
    top: float
    size: float
    angle: float = 0.0
    mirrored: bool = False

    def matrix(self) -> tuple[float, float, float, float, float, float]:
        """Return (a, b, c, d, e, f): the unit point (x, y) is at (a x + b y + c, d x + e y + f)."""
        cos, sin = math.cos(self.angle) * self.size, math.sin(self.angle) * self.size
        flip = -1.0 if self.mirrored else 1.0
        middle_x, middle_y = self.left + self.size / 2, self.top + self.size / 2
        a, d = flip * cos, flip * sin
        b, e = -sin, cos
        return a, b, middle_x - (a + b) / 2, d, e, middle_y - (d + e) / 2


@cache
def _circle(steps: int) -> tuple[Point, ...]:
    turn = 2 * math.pi / steps
    return tuple((math.cos(i * turn), math.sin(i * turn)) for i in range(steps))


@dataclass
class Pen:
    """Draws shapes given in unit coordinates, and records the extent and named points.

    ``outline`` is the line width in canvas pixels, the same for large and small objects.
    """

    draw: ImageDraw
    frame: Frame
    outline: float = 3.0
    ink: Colour = INK
    points: dict[str, Point] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._matrix = self.frame.matrix()
        self._x0 = self._y0 = math.inf
        self._x1 = self._y1 = -math.inf

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """The bounding box (left, top, right, bottom) of everything drawn so far, in canvas pixels."""
        return self._x0, self._y0, self._x1, self._y1

    def polygon(self, points: Sequence[Point], fill: Colour | None, outline: bool = True) -> None:
        """Draw a filled polygon, by default with an ink outline."""
        flat = self._place(points)
        if fill is not None:
            self.draw.polygon(flat, fill)
        if outline:
            self.draw.line([*flat, *flat[:4]], self.ink, round(self.outline), joint="curve")

    def line(self, points: Sequence[Point], width: float, fill: Colour, outline: bool = True) -> None:
        """Draw a stroke with round ends and an ink outline; ``width`` is in unit coordinates."""
        flat = self._place(points, margin=width * self.frame.size / 2)
        inner = max(1.0, width * self.frame.size)
        if outline:
            self._stroke(flat, inner + 2 * self.outline, self.ink)
        self._stroke(flat, inner, fill)

    def stroke(self, points: Sequence[Point], fill: Colour | None = None, width: float = 1.0) -> None:
        """Draw a plain line (mouths, creases, whiskers); ``width`` is in outline widths."""
        self._stroke(self._place(points), max(1.0, width * self.outline), fill or self.ink)

    def ellipse(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        fill: Colour | None,
        outline: bool = True,
        angle: float = 0.0,
    ) -> None:
        """Draw an ellipse around (x, y), rotated by ``angle`` radians."""
        steps = 12 if max(rx, ry) * self.frame.size < 16 else 20
        cos, sin = math.cos(angle), math.sin(angle)
        self.polygon(
            [(x + rx * u * cos - ry * v * sin, y + rx * u * sin + ry * v * cos) for u, v in _circle(steps)],
            fill,
            outline,
        )

    def circle(self, x: float, y: float, r: float, fill: Colour | None, outline: bool = True) -> None:
        self.ellipse(x, y, r, r, fill, outline)

    def rect(
        self, x0: float, y0: float, x1: float, y1: float, fill: Colour | None, outline: bool = True
    ) -> None:
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill, outline)

    def dot(self, x: float, y: float, r: float, fill: Colour | None = None) -> None:
        """Draw a filled circle without outline (eyes, buttons, small windows)."""
        self.ellipse(x, y, r, r, fill or self.ink, outline=False)

    def arc(
        self, x: float, y: float, rx: float, ry: float, start: float, end: float, steps: int = 10
    ) -> list[Point]:
        """Return points along an ellipse from ``start`` to ``end`` (radians, clockwise from the right)."""
        turn = (end - start) / steps
        return [
            (x + rx * math.cos(start + i * turn), y + ry * math.sin(start + i * turn))
            for i in range(steps + 1)
        ]

    def mark(self, name: str, x: float, y: float) -> None:
        """Record a named point (a hand, a grip) at which the scene can join objects."""
        a, b, c, d, e, f = self._matrix
        self.points[name] = (a * x + b * y + c, d * x + e * y + f)

    def _place(self, points: Iterable[Point], margin: float = 0.0) -> list[float]:
        """Return canvas coordinates x, y, x, y, …, and extend the extent by them plus ``margin`` pixels."""
        a, b, c, d, e, f = self._matrix
        flat: list[float] = []
        for x, y in points:
            flat.append(a * x + b * y + c)
            flat.append(d * x + e * y + f)
        self._x0 = min(self._x0, min(flat[::2]) - margin)
        self._x1 = max(self._x1, max(flat[::2]) + margin)
        self._y0 = min(self._y0, min(flat[1::2]) - margin)
        self._y1 = max(self._y1, max(flat[1::2]) + margin)
        return flat

    def _stroke(self, flat: list[float], width: float, fill: Colour) -> None:
        self.draw.line(flat, fill, max(1, round(width)), joint="curve")
        r = width / 2
        if r >= 1.5:
            for x, y in ((flat[0], flat[1]), (flat[-2], flat[-1])):
                self.draw.ellipse((x - r, y - r, x + r, y + r), fill)
