"""Drawings of the eight animals, from the side and with big heads."""

from __future__ import annotations

from collections.abc import Sequence

from safelight.storybook.drawings.drawing import Drawing
from safelight.storybook.look import Look, shade
from safelight.storybook.pen import Colour, Pen, Point

WHITE: Colour = (252, 250, 246)
PINK: Colour = (246, 160, 168)
ORANGE: Colour = (244, 150, 40)

DOGS: tuple[Colour, ...] = ((206, 146, 84), (150, 96, 56), (240, 222, 186), (170, 168, 172), (226, 176, 96))
CATS: tuple[Colour, ...] = ((240, 158, 66), (150, 150, 158), (74, 70, 82), (244, 236, 224), (196, 160, 120))
BIRDS: tuple[Colour, ...] = ((76, 148, 224), (226, 74, 62), (248, 206, 58), (96, 180, 92), (158, 112, 78))
FISHES: tuple[Colour, ...] = ((250, 140, 40), (70, 150, 220), (244, 206, 60), (232, 96, 130), (84, 186, 160))
HORSES: tuple[Colour, ...] = ((156, 92, 52), (108, 68, 46), (214, 164, 104), (226, 220, 212), (132, 128, 134))
MANES: tuple[Colour, ...] = ((54, 38, 34), (238, 216, 160), (96, 58, 36))
RABBITS: tuple[Colour, ...] = ((248, 244, 240), (182, 178, 182), (200, 158, 114), (226, 206, 178))
PATCHES: tuple[Colour, ...] = ((50, 44, 50), (132, 82, 50), (96, 60, 46))
ELEPHANTS: tuple[Colour, ...] = ((150, 156, 168), (126, 140, 166), (172, 164, 168), (136, 136, 140))


def _smooth(points: Sequence[Point], steps: int = 3) -> list[Point]:
    """Return a closed Catmull-Rom curve through ``points``."""
    curve: list[Point] = []
    for i, (bx, by) in enumerate(points):
        (ax, ay), (cx, cy), (dx, dy) = (
            points[i - 1],
            points[(i + 1) % len(points)],
            points[(i + 2) % len(points)],
        )
        for step in range(steps):
            t = step / steps
            a, b = t * (t * (2 - t) - 1) / 2, (t * t * (3 * t - 5) + 2) / 2
            c, d = t * (t * (4 - 3 * t) + 1) / 2, t * t * (t - 1) / 2
            curve.append((a * ax + b * bx + c * cx + d * dx, a * ay + b * by + c * cy + d * dy))
    return curve


def _move(points: Sequence[Point], dx: float, dy: float) -> list[Point]:
    return [(x + dx, y + dy) for x, y in points]


def _eye(pen: Pen, x: float, y: float, r: float = 0.042) -> None:
    pen.dot(x, y, r)
    pen.dot(x + 0.35 * r, y - 0.35 * r, 0.4 * r, WHITE)


def _legs(
    pen: Pen, look: Look, xs: Sequence[float], top: float, width: float, coat: Colour, foot: Colour
) -> None:
    """Draw four legs, back to front; the second and the fourth are on the far side."""
    stride = look.vary(0, 0.03)
    for i in (1, 3, 0, 2):
        far = i % 2
        x, tone = xs[i] + (stride if far else -stride), 0.8 if far else 1.0
        left, right = x - width / 2, x + width / 2
        pen.rect(left, top, right, 1, shade(coat, tone))
        pen.rect(left, 0.93, right, 1, shade(foot, tone))


def dog(pen: Pen, look: Look) -> None:
    coat = look.tint(look.pick(DOGS))
    dark = shade(coat, 0.58)
    x, y = look.vary(0.62, 0.03), look.vary(0.31, 0.03)
    wag = look.vary(0, 0.06)
    pen.line([(0.2, 0.6), (0.1, 0.5), (0.08 + wag, 0.32)], 0.085, coat)
    _legs(pen, look, (0.24, 0.37, 0.55, 0.68), 0.7, 0.12, coat, shade(coat, 1.5))
    pen.ellipse(0.45, 0.67, 0.3, 0.18, coat)
    if look.chance(0.5):
        pen.ellipse(look.vary(0.32, 0.06), 0.62, 0.12, 0.09, dark, outline=False)
    pen.line([(x - 0.16, y + 0.22), (x + 0.12, y + 0.27)], 0.075, look.bright())
    _dog_head(pen, x, y, coat, dark)


def _dog_head(pen: Pen, x: float, y: float, coat: Colour, dark: Colour) -> None:
    pen.ellipse(x, y, 0.25, 0.23, coat)
    pen.ellipse(x + 0.2, y + 0.25, 0.06, 0.11, (240, 96, 112))
    pen.ellipse(x + 0.21, y + 0.09, 0.17, 0.12, shade(coat, 1.9))
    pen.ellipse(x + 0.33, y + 0.03, 0.065, 0.05, pen.ink, outline=False)
    _eye(pen, x + 0.08, y - 0.08, 0.046)
    pen.ellipse(x - 0.17, y + 0.03, 0.1, 0.23, dark, angle=0.2)


def cat(pen: Pen, look: Look) -> None:
    coat = look.tint(look.pick(CATS))
    light, dark = shade(coat, 2.2), shade(coat, 0.62)
    x, y = look.vary(0.46, 0.03), look.vary(0.36, 0.02)
    reach = look.vary(0.88, 0.06)
    tail = [(0.6, 0.92), (reach, 0.9), (reach + 0.06, 0.74), (reach - 0.04, 0.62), (reach - 0.02, 0.52)]
    pen.line(tail, 0.085, coat)
    pen.polygon(
        _smooth([(0.46, 0.4), (0.68, 0.66), (0.72, 0.96), (0.46, 1), (0.2, 0.96), (0.25, 0.66)]), coat
    )
    pen.ellipse(0.46, 0.68, 0.11, 0.14, light, outline=False)
    for paw in (0.36, 0.56):
        pen.ellipse(paw, 0.95, 0.1, 0.055, light)
    _cat_head(pen, x, y, coat, light)
    if look.chance(0.6):
        for dx in (-0.08, 0, 0.08):
            pen.polygon(
                [(x + dx - 0.025, y - 0.22), (x + dx + 0.025, y - 0.22), (x + dx, y - 0.1)], dark, False
            )


def _cat_head(pen: Pen, x: float, y: float, coat: Colour, light: Colour) -> None:
    for side in (-1, 1):
        ear = [(x + side * 0.29, y - 0.36), (x + side * 0.29, y + 0.02), (x + side * 0.03, y - 0.18)]
        pen.polygon(ear, coat)
        inner = [(x + side * 0.25, y - 0.26), (x + side * 0.25, y - 0.06), (x + side * 0.11, y - 0.15)]
        pen.polygon(inner, PINK, outline=False)
    pen.ellipse(x, y, 0.31, 0.23, coat)
    pen.ellipse(x, y + 0.11, 0.13, 0.09, light, outline=False)
    for side in (-1, 1):
        _eye(pen, x + side * 0.14, y - 0.01, 0.05)
        for dy in (0.04, 0.12):
            pen.stroke([(x + side * 0.13, y + 0.09), (x + side * 0.42, y + dy)], width=1.1)
    pen.polygon([(x - 0.05, y + 0.05), (x + 0.05, y + 0.05), (x, y + 0.11)], (232, 100, 120), outline=False)


def bird(pen: Pen, look: Look) -> None:
    coat = look.tint(look.pick(BIRDS))
    dark, belly = shade(coat, 0.66), look.pick([shade(coat, 2.2), (250, 236, 200)])
    lift = look.vary(0.03, 0.06)
    for x in (0.42, 0.58):
        pen.line([(x, 0.78), (x, 0.97), (x + 0.09, 0.98)], 0.05, ORANGE)
    tail = [(0.3, 0.5), (0.02, 0.4 - lift), (-0.05, 0.52 - lift), (0.02, 0.62 - lift), (0.3, 0.7)]
    pen.polygon(tail, shade(coat, 0.48))
    if look.chance(0.5):
        pen.polygon([(0.52, 0.1), (0.42, -0.04), (0.58, 0.02), (0.66, -0.05), (0.7, 0.1)], dark)
    pen.polygon([(0.78, 0.17), (1.05, 0.28), (0.78, 0.39)], ORANGE)
    body = [(0.62, 0.05), (0.84, 0.22), (0.82, 0.55), (0.6, 0.83), (0.34, 0.8), (0.16, 0.6), (0.4, 0.3)]
    pen.polygon(_smooth(body), coat)
    pen.ellipse(0.65, 0.61, 0.13, 0.17, belly, outline=False, angle=0.35)
    pen.polygon(_smooth([(0.52, 0.42), (0.54, 0.6), (0.36, 0.72), (0.1, 0.74 - lift), (0.32, 0.45)]), dark)
    _eye(pen, 0.68, 0.22, 0.055)


def fish(pen: Pen, look: Look) -> None:
    coat = look.tint(look.pick(FISHES))
    fin = look.pick([shade(coat, 0.72), shade(coat, 1.8), look.bright()])
    tall, swish = look.vary(0.3, 0.03), look.vary(0, 0.05)
    pen.polygon([(0.3, 0.53), (-0.03, 0.18 + swish), (0.06, 0.53), (-0.03, 0.88 + swish)], fin)
    pen.polygon(_smooth([(0.34, 0.4), (0.38, 0.06), (0.62, 0.08), (0.76, 0.36)]), fin)
    pen.polygon([(0.46, 0.74), (0.4, 1), (0.6, 0.94), (0.68, 0.72)], fin)
    pen.ellipse(0.59, 0.53, 0.4, tall, coat)
    if look.chance(0.4):
        for x in (0.32, 0.5):
            pen.line([(x, 0.57 - 0.7 * tall), (x + 0.04, 0.53), (x, 0.49 + 0.7 * tall)], 0.07, WHITE, False)
    else:
        for x, y in ((0.29, 0.53), (0.4, 0.41), (0.4, 0.65), (0.5, 0.5), (0.6, 0.36)):
            pen.stroke(pen.arc(x, y, 0.07, 0.085, -1.5, 1.5, 5), shade(coat, 0.45), 1.6)
    pen.polygon(_smooth([(0.64, 0.6), (0.48, 0.62 + swish), (0.52, 0.76 + swish), (0.66, 0.7)]), fin)
    pen.circle(0.8, 0.45, 0.08, WHITE)
    pen.dot(0.82, 0.45, 0.046)
    pen.stroke(pen.arc(0.97, 0.57, 0.1, 0.08, 1.6, 3.2, 5), width=1.5)


def horse(pen: Pen, look: Look) -> None:
    coat = look.tint(look.pick(HORSES))
    mane = look.tint(look.pick(MANES), 8)
    dx, dy = look.vary(-0.01, 0.03), look.vary(0.02, 0.03)
    pen.polygon(_smooth([(0.2, 0.46), (0.08, 0.46), (-0.03, 0.68), (0.0, 0.86), (0.1, 0.72)]), mane)
    _legs(pen, look, (0.2, 0.32, 0.54, 0.66), 0.64, 0.1, coat, look.pick([shade(coat, 0.45), WHITE]))
    head = _move([(0.56, 0.12), (0.72, 0.08), (0.98, 0.33), (0.98, 0.47), (0.87, 0.49), (0.71, 0.36)], dx, dy)
    trunk = [(0.72, 0.56), (0.66, 0.71), (0.42, 0.7), (0.18, 0.72), (0.11, 0.56), (0.2, 0.45), (0.4, 0.47)]
    for ear in (0.66, 0.57):
        pen.polygon(_move([(ear - 0.07, 0.16), (ear - 0.03, -0.05), (ear + 0.09, 0.12)], dx, dy), coat)
    pen.polygon(_smooth([*head, *trunk]), coat)
    muzzle = _move([(0.86, 0.24), (0.97, 0.32), (0.98, 0.46), (0.87, 0.48), (0.8, 0.4)], dx, dy)
    pen.polygon(_smooth(muzzle), shade(coat, look.pick([0.6, 1.8])), outline=False)
    crest = [(0.7, 0.07), (0.68, 0.2), (0.6, 0.25), (0.62, 0.38), (0.52, 0.42), (0.5, 0.54), (0.36, 0.5)]
    pen.polygon(_move([*crest, (0.38, 0.36), (0.44, 0.2), (0.52, 0.1)], dx, dy), mane)
    _eye(pen, 0.76 + dx, 0.22 + dy, 0.042)
    pen.dot(0.93 + dx, 0.38 + dy, 0.024)


def rabbit(pen: Pen, look: Look) -> None:
    coat = look.tint(look.pick(RABBITS), 8)
    light = shade(coat, 2.5)
    x = look.vary(0.54, 0.02)
    pen.circle(0.2, 0.84, 0.12, WHITE)
    for dx, lean in ((-0.12, look.vary(-0.16, 0.1)), (0.12, look.vary(0.16, 0.14))):
        pen.ellipse(x + dx, 0.18, 0.085, 0.24, coat, angle=lean)
        pen.ellipse(x + dx, 0.18, 0.04, 0.17, PINK, outline=False, angle=lean)
    pen.ellipse(0.5, 0.78, 0.25, 0.21, coat)
    pen.ellipse(0.54, 0.81, 0.15, 0.14, light, outline=False)
    for foot in (0.38, 0.68):
        pen.ellipse(foot, 0.95, 0.14, 0.055, coat)
    pen.ellipse(x, 0.49, 0.26, 0.19, coat)
    for side in (-1, 1):
        _eye(pen, x + side * 0.12, 0.46, 0.045)
        pen.stroke([(x + side * 0.12, 0.56), (x + side * 0.34, 0.54 + 0.01 * side)], width=0.9)
    pen.rect(x - 0.05, 0.58, x + 0.05, 0.68, WHITE)
    pen.ellipse(x, 0.57, 0.11, 0.06, light, outline=False)
    pen.ellipse(x, 0.54, 0.045, 0.035, (232, 100, 120), outline=False)


def cow(pen: Pen, look: Look) -> None:
    coat = look.tint(look.pick([WHITE, WHITE, (240, 224, 196)]), 6)
    patch = look.tint(look.pick(PATCHES), 8)
    y = look.vary(0.33, 0.03)
    pen.line([(0.1, 0.44), (0.0, 0.5), (0.0, 0.68)], 0.05, coat)
    pen.ellipse(0.0, 0.74, 0.05, 0.08, patch)
    _legs(pen, look, (0.13, 0.26, 0.58, 0.7), 0.7, 0.12, coat, (70, 58, 58))
    pen.ellipse(0.4, 0.79, 0.13, 0.1, PINK)
    pen.polygon(
        _smooth([(0.07, 0.4), (0.4, 0.37), (0.76, 0.4), (0.78, 0.7), (0.42, 0.78), (0.06, 0.74)]), coat
    )
    for spot_x, spot_y, size in ((0.17, 0.52, 0.1), (0.46, 0.66, 0.08), (0.4, 0.46, 0.07)):
        x, r = look.vary(spot_x, 0.03), look.vary(size, 0.02)
        pen.ellipse(x, spot_y, 1.25 * r, r, patch, outline=False, angle=look.vary(0, 0.8))
    _cow_head(pen, 0.72, y, coat, patch)


def _cow_head(pen: Pen, x: float, y: float, coat: Colour, patch: Colour) -> None:
    for side in (-1, 1):
        horn = [(x + side * 0.08, y - 0.14), (x + side * 0.2, y - 0.34), (x + side * 0.19, y - 0.1)]
        pen.polygon(horn, (244, 226, 172))
        pen.ellipse(x + side * 0.25, y - 0.05, 0.1, 0.06, patch, angle=side * 0.3)
    pen.polygon(
        _smooth([(x - 0.17, y - 0.18), (x + 0.17, y - 0.18), (x + 0.15, y + 0.2), (x - 0.15, y + 0.2)]), coat
    )
    pen.ellipse(x - 0.1, y - 0.05, 0.09, 0.12, patch, outline=False)
    for side in (-1, 1):
        pen.dot(x + side * 0.09, y - 0.05, 0.055, WHITE)
        pen.dot(x + side * 0.09, y - 0.04, 0.035)
    pen.ellipse(x, y + 0.17, 0.21, 0.12, PINK)
    for side in (-1, 1):
        pen.dot(x + side * 0.08, y + 0.15, 0.028)


def elephant(pen: Pen, look: Look) -> None:
    coat = look.tint(look.pick(ELEPHANTS), 8)
    x, y = 0.64, look.vary(0.33, 0.02)
    pen.line([(0.06, 0.5), (-0.02, 0.62), (0.0, 0.72)], 0.05, coat)
    _legs(pen, look, (0.15, 0.31, 0.48, 0.6), 0.66, 0.16, coat, shade(coat, 1.7))
    pen.ellipse(0.35, 0.52, 0.33, 0.28, coat)
    tip = look.pick([[(0.98, 0.9), (1.05, 0.74)], [(0.9, 0.91), (0.8, 0.92)], [(0.99, 0.7), (1.02, 0.46)]])
    trunk = [(0.76, 0.36), (0.86, 0.48), (0.9, 0.62), (0.92, 0.74), *tip]
    pen.line(trunk, 0.13, coat)
    pen.circle(x, y, 0.25, coat)
    pen.line(trunk[:3], 0.13, coat, outline=False)
    pen.polygon(
        _smooth([(0.72, 0.5), (0.79, 0.52), (0.84, 0.7), (0.98, 0.72), (0.84, 0.81), (0.73, 0.7)]), WHITE
    )
    _eye(pen, x + 0.15, y - 0.07, 0.042)
    wide, tall = look.vary(0.23, 0.02), look.vary(0.3, 0.02)
    pen.ellipse(x - 0.22, y + 0.02, wide, tall, shade(coat, 0.85), angle=0.15)
    pen.ellipse(x - 0.21, y + 0.03, 0.62 * wide, 0.68 * tall, (222, 170, 176), outline=False, angle=0.15)


DRAWINGS: dict[str, Drawing] = {
    "dog": dog,
    "cat": cat,
    "bird": bird,
    "fish": fish,
    "horse": horse,
    "rabbit": rabbit,
    "cow": cow,
    "elephant": elephant,
}
