"""The pen: vector shapes in an object's own unit square, put on an image by an affine map.

Every shape becomes a polygon, so that turning, mirroring and scaling need no special case, and the
pen knows exactly which part of the image it touched.
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
    """Where an object's unit square lies on the canvas: x right, y down, both in canvas pixels.

    ``left`` and ``top`` place the upright square's corner, ``size`` is its side, ``angle`` turns it
    about its centre (radians, clockwise) and ``mirrored`` flips it left to right before that.
    """

    left: float
    top: float
    size: float
    angle: float = 0.0
    mirrored: bool = False

    def matrix(self) -> tuple[float, float, float, float, float, float]:
        """(a, b, c, d, e, f): the unit point (x, y) lies at (a x + b y + c, d x + e y + f)."""
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
    """Draws shapes given in unit coordinates; remembers the extent and the named points.

    ``outline`` is the line width in canvas pixels, the same for big and small objects, as a
    cartoonist's pen would have it.
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
        """(left, top, right, bottom) of everything drawn so far, in canvas pixels."""
        return self._x0, self._y0, self._x1, self._y1

    def polygon(self, points: Sequence[Point], fill: Colour | None, outline: bool = True) -> None:
        """A closed shape, filled, with an ink outline unless told otherwise."""
        flat = self._place(points)
        if fill is not None:
            self.draw.polygon(flat, fill)
        if outline:
            self.draw.line([*flat, *flat[:4]], self.ink, round(self.outline), joint="curve")

    def line(self, points: Sequence[Point], width: float, fill: Colour, outline: bool = True) -> None:
        """A stroke with round ends; ``width`` is in unit coordinates. Outlined by an ink rim."""
        flat = self._place(points, margin=width * self.frame.size / 2)
        inner = max(1.0, width * self.frame.size)
        if outline:
            self._stroke(flat, inner + 2 * self.outline, self.ink)
        self._stroke(flat, inner, fill)

    def stroke(self, points: Sequence[Point], fill: Colour | None = None, width: float = 1.0) -> None:
        """A bare pen line (mouths, creases, whiskers); ``width`` is in outline widths."""
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
        """An ellipse about (x, y), turned by ``angle`` radians."""
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
        """A filled spot without outline: eyes, buttons, windows seen from afar."""
        self.ellipse(x, y, r, r, fill or self.ink, outline=False)

    def arc(
        self, x: float, y: float, rx: float, ry: float, start: float, end: float, steps: int = 10
    ) -> list[Point]:
        """Points along an ellipse from ``start`` to ``end`` (radians, clockwise from the right)."""
        turn = (end - start) / steps
        return [
            (x + rx * math.cos(start + i * turn), y + ry * math.sin(start + i * turn))
            for i in range(steps + 1)
        ]

    def mark(self, name: str, x: float, y: float) -> None:
        """Name a point (a hand, a grip) so that the scene can join objects there."""
        a, b, c, d, e, f = self._matrix
        self.points[name] = (a * x + b * y + c, d * x + e * y + f)

    def _place(self, points: Iterable[Point], margin: float = 0.0) -> list[float]:
        """Canvas coordinates x, y, x, y, …; the extent grows by them and ``margin`` canvas pixels around."""
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
