"""Drawings of the six places, which are the background of scenes."""

from __future__ import annotations

from safelight.storybook.drawings.drawing import Drawing
from safelight.storybook.look import Look, shade
from safelight.storybook.pen import Colour, Pen


def _split(pen: Pen, horizon: float, above: Colour, below: Colour) -> None:
    pen.rect(0, 0, 1, horizon, above, outline=False)
    pen.rect(0, horizon, 1, 1, below, outline=False)


def _cloud(pen: Pen, x: float, y: float, r: float, colour: Colour) -> None:
    for dx, dy, size in ((-1.1, 0.25, 0.75), (0, 0, 1), (1.2, 0.3, 0.7)):
        pen.dot(x + dx * r, y + dy * r, r * size, colour)


def park(pen: Pen, look: Look) -> None:
    grass = look.tint((122, 190, 88))
    horizon = look.vary(0.56, 0.05)
    _split(pen, horizon, look.tint((166, 216, 246), 10), grass)
    hill = look.vary(0.4, 0.3)
    pen.ellipse(hill, horizon + 0.02, 0.45, 0.14, shade(grass, 0.88), outline=False)
    _cloud(pen, look.vary(0.5, 0.35), look.vary(0.14, 0.05), 0.08, (250, 252, 255))
    middle = look.vary(0.5, 0.25)
    path = [(middle, horizon), (middle + 0.08, horizon), (middle + 0.34, 1.0), (middle - 0.1, 1.0)]
    pen.polygon(path, look.tint((226, 206, 158)), outline=False)


def kitchen(pen: Pen, look: Look) -> None:
    wall, cupboard = look.tint((238, 232, 210)), look.tint(look.pick([(120, 170, 180), (196, 132, 86)]))
    _split(pen, 0.68, wall, look.tint((206, 192, 174)))
    line = shade(wall, 0.86)
    for i in range(1, 4):
        pen.rect(0, 0.2 + 0.11 * i, 1, 0.212 + 0.11 * i, line, outline=False)
    for i in range(6):
        pen.rect(0.08 + 0.18 * i, 0.2, 0.092 + 0.18 * i, 0.6, line, outline=False)
    pen.rect(0, 0, 1, 0.2, cupboard, outline=False)
    pen.rect(0, 0.6, 1, 0.8, cupboard, outline=False)
    for x in (0.25, 0.5, 0.75):
        pen.rect(x - 0.008, 0, x + 0.008, 0.19, shade(cupboard, 0.65), outline=False)
        pen.rect(x - 0.008, 0.64, x + 0.008, 0.8, shade(cupboard, 0.65), outline=False)
    pen.rect(0, 0.57, 1, 0.62, (250, 248, 244))


def street(pen: Pen, look: Look) -> None:
    _split(pen, 0.62, look.tint((196, 214, 228), 10), look.tint((112, 114, 122)))
    left = -0.05
    while left < 1:
        width, top = look.vary(0.24, 0.05), look.vary(0.2, 0.12)
        wall = look.tint(look.pick([(172, 150, 140), (150, 158, 172), (188, 172, 150)]))
        pen.rect(left, top, left + width, 0.6, wall, outline=False)
        for row in range(3):
            y = top + 0.05 + 0.11 * row
            pen.rect(left + 0.04, y, left + width - 0.04, y + 0.05, shade(wall, 0.7), outline=False)
        left += width + 0.02
    pen.rect(0, 0.59, 1, 0.66, look.tint((198, 196, 190), 8), outline=False)
    for i in range(4):
        pen.rect(0.04 + 0.27 * i, 0.82, 0.2 + 0.27 * i, 0.855, (240, 226, 150), outline=False)


def beach(pen: Pen, look: Look) -> None:
    horizon = look.vary(0.4, 0.04)
    sea = look.tint((52, 150, 196))
    _split(pen, horizon, look.tint((186, 228, 250), 10), look.tint((244, 222, 164), 8))
    pen.rect(0, horizon, 1, horizon + 0.18, sea, outline=False)
    pen.rect(0, horizon + 0.165, 1, horizon + 0.2, (246, 250, 250), outline=False)
    for _ in range(3):
        x, y = look.vary(0.5, 0.4), look.vary(horizon + 0.08, 0.05)
        pen.rect(x - 0.07, y, x + 0.07, y + 0.014, shade(sea, 1.5), outline=False)
    pen.dot(look.vary(0.5, 0.38), look.vary(0.13, 0.04), 0.085, (255, 214, 74))


def room(pen: Pen, look: Look) -> None:
    papers: list[Colour] = [(228, 190, 176), (196, 206, 226), (214, 214, 176), (218, 192, 222)]
    paper = look.tint(look.pick(papers))
    floor = look.tint((168, 118, 76))
    _split(pen, 0.7, paper, floor)
    for i in range(7):
        pen.rect(0.03 + 0.15 * i, 0, 0.075 + 0.15 * i, 0.69, shade(paper, 0.92), outline=False)
    pen.rect(0, 0.68, 1, 0.72, (246, 240, 230), outline=False)
    for y in (0.8, 0.9):
        pen.rect(0, y, 1, y + 0.012, shade(floor, 0.78), outline=False)
    x = look.pick([0.08, 0.62])
    pen.rect(x, 0.12, x + 0.28, 0.4, (250, 248, 242))
    pen.rect(x + 0.03, 0.15, x + 0.25, 0.37, look.tint((176, 220, 244)), outline=False)
    pen.rect(x + 0.13, 0.15, x + 0.15, 0.37, (250, 248, 242), outline=False)


def night(pen: Pen, look: Look) -> None:
    sky = look.tint((44, 50, 108), 8)
    horizon = look.vary(0.66, 0.04)
    _split(pen, horizon, sky, look.tint((58, 82, 86), 8))
    moon_x, moon_y = look.vary(0.5, 0.38), look.vary(0.16, 0.04)
    pen.dot(moon_x, moon_y, 0.1, (248, 240, 190))
    pen.dot(moon_x + 0.045, moon_y - 0.02, 0.085, sky)
    for _ in range(9):
        x, y = look.vary(0.5, 0.48), look.vary(0.28, 0.26)
        pen.rect(x, y, x + 0.018, y + 0.018, (250, 246, 214), outline=False)


PLACE_DRAWINGS: dict[str, Drawing] = {
    "park": park,
    "kitchen": kitchen,
    "street": street,
    "beach": beach,
    "room": room,
    "night": night,
}
