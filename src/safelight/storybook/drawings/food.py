"""Drawings of the seven foods, which fill their unit square."""

from __future__ import annotations

import math

from safelight.storybook.drawings.drawing import Drawing
from safelight.storybook.look import Look, shade
from safelight.storybook.pen import Colour, Pen, Point

PI = math.pi
BROWN: Colour = (112, 72, 42)
CREAM: Colour = (255, 246, 226)
LEAF: Colour = (84, 166, 66)
CHERRY: Colour = (206, 34, 52)

CRUSTS: tuple[Colour, ...] = ((204, 134, 62), (176, 106, 52), (222, 160, 84))
APPLES: tuple[Colour, ...] = ((220, 50, 46), (134, 190, 60), (232, 92, 60), (232, 218, 96))
ICINGS: tuple[Colour, ...] = (
    (246, 150, 184),
    (120, 72, 50),
    (255, 250, 244),
    (150, 200, 236),
    (178, 222, 160),
)
SPONGES: tuple[Colour, ...] = ((244, 208, 140), (150, 94, 60), (236, 180, 110))
BANANAS: tuple[Colour, ...] = ((252, 216, 60), (250, 226, 96), (222, 216, 84))
CHEESES: tuple[Colour, ...] = ((250, 200, 56), (246, 176, 48), (252, 222, 110))


def bread(pen: Pen, look: Look) -> None:
    crust = look.tint(look.pick(CRUSTS))
    draw = _loaf if look.chance(0.6) else _slice
    draw(pen, look, crust)
    pen.mark("grip", 0.5, 0.92)


def _loaf(pen: Pen, look: Look, crust: Colour) -> None:
    top = look.vary(0.3, 0.05)
    dome = pen.arc(0.5, 0.66, 0.52, 0.66 - top, PI, 2 * PI, 14)
    pen.polygon([*dome, (1, 0.86), (0.92, 1), (0.08, 1), (0, 0.86)], crust)
    pen.rect(0.1, 0.88, 0.9, 0.94, shade(crust, 0.75), outline=False)
    for x in (0.24, 0.48, 0.72):
        pen.line([(x - 0.06, 0.66), (x + 0.05, top + 0.14)], 0.075, shade(crust, 2.6))


def _slice(pen: Pen, look: Look, crust: Colour) -> None:
    side = look.vary(0.4, 0.03)
    for scale, colour in ((1.0, crust), (0.8, (250, 226, 172))):
        wide, lobe = side * scale, 0.46 * scale
        left = pen.arc(0.5 - 0.44 * wide, 0.3, 0.74 * wide, 0.48 * lobe, 0.75 * PI, 1.6 * PI)
        right = pen.arc(0.5 + 0.44 * wide, 0.3, 0.74 * wide, 0.48 * lobe, 1.4 * PI, 2.25 * PI)
        bottom = 0.54 + 0.44 * scale
        pen.polygon([*left, *right, (0.5 + wide, bottom), (0.5 - wide, bottom)], colour, outline=scale == 1)
    for _ in range(4):
        pen.dot(look.vary(0.5, 0.2), look.vary(0.58, 0.2), 0.025, (222, 182, 116))


def apple(pen: Pen, look: Look) -> None:
    skin = look.tint(look.pick(APPLES))
    lean, wide = look.vary(0, 0.06), look.vary(0.28, 0.02)
    pen.line([(0.5, 0.34), (0.5 + lean, 0.06)], 0.055, BROWN)
    left = pen.arc(0.33, 0.58, wide, 0.36, 0.55 * PI, 1.7 * PI)
    right = pen.arc(0.67, 0.58, wide, 0.36, -0.7 * PI, 0.45 * PI)
    pen.polygon([*left, (0.5, 0.38), *right, (0.61, 1), (0.5, 0.95), (0.39, 1)], skin)
    pen.ellipse(0.2, 0.54, 0.06, look.vary(0.13, 0.04), shade(skin, 2.6), outline=False, angle=0.3)
    green = look.tint(LEAF)
    pen.ellipse(0.7 + lean, 0.13, 0.2, 0.095, green, angle=look.vary(-0.35, 0.2))
    if look.chance(0.35):
        pen.ellipse(0.33 + lean, 0.17, 0.16, 0.08, green, angle=look.vary(0.4, 0.2))
    pen.mark("grip", 0.5, 0.92)


def carrot(pen: Pen, look: Look) -> None:
    root, green = look.tint((246, 130, 36)), look.tint(LEAF)
    wide, tip, sway = look.vary(0.27, 0.04), look.vary(0.5, 0.07), look.vary(0, 0.15)
    waist, bend = 0.64 * wide, 0.5 + 0.4 * (tip - 0.5)
    leaf = look.vary(0.1, 0.015)
    for dx, y in ((-0.18, 0.25), (0.18, 0.25), (0, 0.2)):
        pen.ellipse(0.5 + dx + 0.3 * sway, y, leaf, 0.21, green, angle=3 * dx + sway)
    shoulders = pen.arc(0.5, 0.47, wide, 0.13, PI, 2 * PI, 8)
    right, left = (bend + waist, 0.72), (bend - waist, 0.72)
    pen.polygon([*shoulders, right, (tip + 0.05, 0.99), (tip - 0.05, 0.99), left], root)
    dark = shade(root, 0.62)
    for y, x, way in ((0.5, 0.52 - wide, 1), (0.61, 0.49 + 0.82 * wide, -1), (0.73, bend - 0.9 * waist, 1)):
        pen.stroke([(x, y), (x + way * 0.17, y + 0.015)], dark, 1.8)
    pen.mark("grip", bend, 0.7)


def cake(pen: Pen, look: Look) -> None:
    sponge, icing = look.tint(look.pick(SPONGES)), look.tint(look.pick(ICINGS), 6)
    pen.ellipse(0.5, 0.94, 0.5, 0.06, (226, 230, 238))
    if look.chance(0.65):
        top = look.vary(0.36, 0.03)
        _tier(pen, look, 0.4, top, 0.95, sponge, icing)
    else:
        top = look.vary(0.25, 0.03)
        _tier(pen, look, 0.42, 0.58, 0.95, sponge, icing)
        _tier(pen, look, 0.27, top, 0.6, sponge, icing)
    pen.stroke([(0.5, top - 0.11), (0.55, top - 0.25)], width=1.3)
    pen.circle(0.5, top - 0.11, 0.09, CHERRY)
    pen.dot(0.47, top - 0.14, 0.024, (255, 200, 200))
    pen.mark("grip", 0.5, 0.95)


def _tier(
    pen: Pen, look: Look, half: float, top: float, bottom: float, sponge: Colour, icing: Colour
) -> None:
    tall = bottom - top
    pen.rect(0.5 - half, top, 0.5 + half, bottom, sponge)
    pen.rect(0.5 - half, bottom - 0.36 * tall, 0.5 + half, bottom - 0.22 * tall, CREAM)
    drips: list[Point] = []
    for i in (3, 1, -1, -3):
        deep = look.vary(0.2, 0.08) * tall
        drips += pen.arc(0.5 + i * half / 4, top + 0.27 * tall, half / 4, deep, 0, PI, 6)
    pen.polygon([*pen.arc(0.5, top, half, 0.25 * half, PI, 2 * PI), *drips], icing)
    for i in (-1, 0, 1):
        pen.dot(0.5 + 0.6 * i * half, top + (0.14 if i else 0.2) * tall, 0.03, look.bright())


def pizza(pen: Pen, look: Look) -> None:
    crust, cheese_tone = look.tint((214, 146, 72)), look.tint((252, 212, 96), 8)
    wide, tip = look.vary(0.43, 0.03), look.vary(0.5, 0.05)
    pen.polygon([(0.5 - wide, 0.16), (0.5 + wide, 0.16), (tip, 1)], cheese_tone)
    salami = look.tint((206, 56, 44))
    for x, y, r in ((0.33, 0.34, 0.1), (0.65, 0.38, 0.11), (0.48, 0.62, 0.095)):
        pen.circle(look.vary(x, 0.02), look.vary(y, 0.02), r, salami)
    if look.chance(0.6):
        for x, y in ((0.5, 0.3), (0.4, 0.5), (0.56, 0.54)):
            pen.ellipse(x, y, 0.045, 0.028, LEAF, outline=False, angle=look.vary(0, 1.5))
    pen.line([(0.5 - wide, 0.17), (0.5, 0.11), (0.5 + wide, 0.17)], 0.14, crust)
    pen.mark("grip", 0.5, 0.12)


def banana(pen: Pen, look: Look) -> None:
    skin = look.tint(look.pick(BANANAS), 8)
    fat = look.vary(0, 0.03)
    if look.chance(0.4):
        _crescent(pen, shade(skin, 0.92), fat, 0.32)
    _crescent(pen, skin, fat, 0)
    pen.line([(0.86, 0.24), (0.88, 0.1)], 0.085, shade(skin, 0.86))
    pen.line([(0.88, 0.11), (0.885, 0.07)], 0.09, BROWN, outline=False)
    pen.mark("grip", 0.45, 0.88)


def _crescent(pen: Pen, skin: Colour, fat: float, turn: float) -> None:
    """Draw one banana, rotated clockwise about the stalk at its right end."""
    cos, sin = math.cos(turn), math.sin(turn)

    def turned(points: list[Point]) -> list[Point]:
        return [
            (0.88 + cos * (x - 0.88) - sin * (y - 0.14), 0.14 + sin * (x - 0.88) + cos * (y - 0.14))
            for x, y in points
        ]

    outer = pen.arc(0.46, 0.24, 0.48, 0.72 + fat, 0, 0.92 * PI, 14)
    inner = pen.arc(0.44, 0.2, 0.36, 0.36 - fat, 0.86 * PI, 0, 12)
    pen.polygon(turned([*outer, *inner]), skin)
    pen.stroke(turned(pen.arc(0.45, 0.26, 0.4, 0.54, 0.1 * PI, 0.84 * PI)), shade(skin, 0.7), 1.6)
    (tip,) = turned([(0.04, 0.4)])
    pen.dot(*tip, 0.05, BROWN)


def cheese(pen: Pen, look: Look) -> None:
    side = look.tint(look.pick(CHEESES), 8)
    back, top = look.vary(0.66, 0.06), look.vary(0.22, 0.04)
    pen.polygon([(0.01, 0.56), (back, top), (0.99, 0.48)], shade(side, 1.8))
    pen.polygon([(0.01, 0.56), (0.99, 0.48), (0.99, 0.98), (0.01, 0.98)], side)
    red, green, blue = shade(side, 0.82)
    hole = red, int(0.86 * green), blue
    for x, y, r in ((0.26, 0.76, 0.11), (0.56, 0.66, 0.075), (0.77, 0.81, 0.11), (0.5, 0.9, 0.05)):
        pen.circle(look.vary(x, 0.03), look.vary(y, 0.02), look.vary(r, 0.015), hole)
    pen.ellipse(back, 0.42, 0.08, 0.045, hole)
    pen.mark("grip", 0.5, 0.9)


DRAWINGS: dict[str, Drawing] = {
    "bread": bread,
    "apple": apple,
    "carrot": carrot,
    "cake": cake,
    "pizza": pizza,
    "banana": banana,
    "cheese": cheese,
}
