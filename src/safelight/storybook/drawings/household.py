"""Drawings of household objects."""

from __future__ import annotations

import math
from itertools import pairwise

from safelight.storybook.drawings.drawing import Drawing
from safelight.storybook.look import Look, shade
from safelight.storybook.pen import Colour, Pen, Point

PAPER: Colour = (252, 248, 232)
STEEL: tuple[Colour, ...] = ((176, 184, 196), (206, 176, 96), (92, 88, 100))
WOODS: tuple[Colour, ...] = ((176, 116, 64), (132, 84, 50), (214, 162, 98), (206, 80, 64), (80, 130, 180))
SHADES: tuple[Colour, ...] = (
    (255, 232, 150), (250, 214, 110), (255, 244, 206), (244, 170, 130), (170, 214, 200), (240, 150, 170),
)  # fmt: skip


def chair(pen: Pen, look: Look) -> None:
    wood = look.tint(look.pick(WOODS))
    seat, level = look.pick((wood, look.bright())), look.vary(0.52, 0.02)
    for x in (0.29, 0.62):
        pen.rect(x, level, x + 0.09, 0.88, shade(wood, 0.7))
    _backrest(pen, look, wood, level)
    for x in (0.14, 0.75):
        pen.rect(x, level + 0.1, x + 0.11, 1.0, wood)
    pen.polygon([(0.22, level - 0.03), (0.78, level - 0.03), (0.88, level + 0.1), (0.12, level + 0.1)], seat)
    pen.rect(0.12, level + 0.1, 0.88, level + 0.17, shade(seat, 0.8))


def _backrest(pen: Pen, look: Look, wood: Colour, level: float) -> None:
    """Draw the backrest of a chair: a panel, upright slats or rungs between two posts."""
    kind = look.pick(("panel", "slats", "ladder"))
    for x in (0.21, 0.69):
        pen.rect(x, 0.0, x + 0.1, level, wood)
    if kind == "panel":
        pen.rect(0.21, 0.03, 0.79, level - 0.1, wood)
    elif kind == "slats":
        for x in (0.38, 0.54):
            pen.rect(x, 0.1, x + 0.08, level, wood)
        pen.rect(0.18, 0.0, 0.82, 0.13, wood)
    else:
        for y in (0.06, 0.26):
            pen.rect(0.25, y, 0.75, y + 0.11, wood)


def lamp(pen: Pen, look: Look) -> None:
    colour, metal = look.tint(look.pick(SHADES)), look.tint(look.pick(STEEL))
    brim = look.vary(0.36, 0.04)
    if look.chance(0.4):
        pen.rect(0.47, 0.3, 0.53, 0.95, metal)
        pen.polygon(pen.arc(0.5, 1.0, 0.24, 0.11, math.pi, 2 * math.pi), metal)
        _lampshade(pen, look, colour, brim - 0.02, 0.36)
    else:
        base = look.bright()
        pen.rect(0.46, 0.46, 0.54, 0.7, metal)
        pen.ellipse(0.5, 0.78, look.vary(0.2, 0.03), 0.17, base)
        pen.rect(0.28, 0.92, 0.72, 1.0, shade(base, 0.7))
        _lampshade(pen, look, colour, brim, 0.5)


def _lampshade(pen: Pen, look: Look, colour: Colour, brim: float, foot: float) -> None:
    crown = brim * look.vary(0.5, 0.08)
    pen.circle(0.5, foot + 0.01, 0.075, (255, 250, 190))
    pen.polygon([(0.5 - crown, 0.0), (0.5 + crown, 0.0), (0.5 + brim, foot), (0.5 - brim, foot)], colour)
    light = shade(colour, 2.0)
    pen.polygon(
        [(0.5 - crown * 0.6, 0.03), (0.5, 0.03), (0.5, foot - 0.03), (0.5 - brim * 0.6, foot - 0.03)],
        light,
        outline=False,
    )


def book(pen: Pen, look: Look) -> None:
    kind = look.pick((_closed_book, _closed_book, _open_book))
    kind(pen, look, look.bright())


def _closed_book(pen: Pen, look: Look, cover: Colour) -> None:
    right, depth = look.vary(0.74, 0.04), 0.16
    pen.polygon([(right, 0.09), (right + depth, 0.0), (right + depth, 0.87), (right, 0.97)], PAPER)
    pen.polygon([(0.12, 0.09), (0.12 + depth, 0.0), (right + depth, 0.0), (right, 0.09)], PAPER)
    pen.stroke([(right + 0.08, 0.05), (right + 0.08, 0.91)], (190, 180, 160))
    pen.rect(0.12, 0.09, right, 1.0, cover)
    pen.rect(0.12, 0.09, 0.23, 1.0, shade(cover, 0.65))
    middle = (0.23 + right) / 2
    label = shade(cover, 4.0)
    pen.rect(middle - 0.17, 0.24, middle + 0.17, 0.42, label, outline=False)
    if look.chance(0.6):
        look.pick((_star, _disc))(pen, middle, 0.68, label)
    pen.mark("grip", middle, 0.95)


def _star(pen: Pen, x: float, y: float, colour: Colour) -> None:
    spikes = [(0.15 if i % 2 == 0 else 0.065, math.pi * (i / 5 - 0.5)) for i in range(10)]
    pen.polygon([(x + r * math.cos(t), y + r * math.sin(t)) for r, t in spikes], colour, outline=False)


def _disc(pen: Pen, x: float, y: float, colour: Colour) -> None:
    pen.dot(x, y, 0.11, colour)


def _open_book(pen: Pen, look: Look, cover: Colour) -> None:
    dip, foot = look.vary(0.33, 0.03), 0.91
    pen.polygon([(-0.05, 0.24), (0.5, dip), (1.05, 0.24), (1.05, foot), (0.5, 1.0), (-0.05, foot)], cover)
    for side in (-1, 1):
        _page(pen, side, dip)
    pen.mark("grip", 0.5, 0.95)


def _page(pen: Pen, side: int, dip: float) -> None:
    edge, near = 0.5 + side * 0.47, 0.5 + side * 0.25
    pen.polygon([(0.5, dip), (near, 0.14), (edge, 0.18), (edge, 0.82), (near, 0.79), (0.5, 0.92)], PAPER)
    for y in (0.34, 0.47, 0.6):
        pen.line(
            [(0.5 + side * 0.13, y), (0.5 + side * 0.36, y - 0.04)], 0.035, (150, 146, 150), outline=False
        )


def clock(pen: Pen, look: Look) -> None:
    rim, alarm = look.bright(), look.chance(0.5)
    y, r = (0.54, 0.4) if alarm else (0.5, 0.48)
    if alarm:
        _bells_and_feet(pen, rim)
    pen.circle(0.5, y, r, rim)
    pen.circle(0.5, y, r * 0.78, PAPER)
    marks = look.pick((4, 8, 12))
    for i in range(marks):
        t = 2 * math.pi * i / marks
        pen.dot(0.5 + r * 0.65 * math.cos(t), y + r * 0.65 * math.sin(t), 0.032)
    for length, width in ((0.34, 0.06), (0.55, 0.05)):
        t = look.vary(0, math.pi)
        tip = (0.5 + r * length * math.cos(t), y + r * length * math.sin(t))
        pen.line([(0.5, y), tip], width, pen.ink, outline=False)
    pen.dot(0.5, y, 0.05, rim)


def _bells_and_feet(pen: Pen, rim: Colour) -> None:
    for side in (-1, 1):
        pen.line([(0.5 + 0.2 * side, 0.8), (0.5 + 0.31 * side, 0.97)], 0.07, shade(rim, 0.7))
        pen.ellipse(0.5 + 0.27 * side, 0.16, 0.17, 0.12, (250, 206, 84), angle=0.65 * side)
    pen.rect(0.46, 0.0, 0.54, 0.2, shade(rim, 0.7))


def cup(pen: Pen, look: Look) -> None:
    glaze, foot = look.bright(), look.vary(0.24, 0.03)
    left, right, top = 0.06, 0.68, 0.3
    if look.chance(0.5):
        _steam(pen)
    pen.line(pen.arc(right - 0.02, 0.58, 0.22, 0.19, -1.5, 1.5), 0.09, shade(glaze, 0.8))
    middle = (left + right) / 2
    bowl = pen.arc(middle, 0.86, foot, 0.14, 0, math.pi)
    pen.polygon([(left, top), (right, top), *bowl], glaze)
    _cup_pattern(pen, look, middle, glaze)
    pen.ellipse(middle, top, (right - left) / 2, 0.085, (252, 250, 246))
    pen.ellipse(middle, top + 0.012, 0.23, 0.045, look.pick(((104, 66, 44), (150, 92, 52))), outline=False)
    pen.mark("grip", 0.86, 0.6)


def _cup_pattern(pen: Pen, look: Look, middle: float, glaze: Colour) -> None:
    light, kind = shade(glaze, 3.5), look.pick(("plain", "band", "dots", "heart"))
    if kind == "band":
        pen.rect(middle - 0.26, 0.58, middle + 0.26, 0.72, light, outline=False)
    elif kind == "dots":
        for dx, y in ((-0.16, 0.56), (0.0, 0.7), (0.16, 0.56)):
            pen.dot(middle + dx, y, 0.055, light)
    elif kind == "heart":
        for side in (-1, 1):
            pen.ellipse(middle + 0.06 * side, 0.62, 0.085, 0.13, light, outline=False, angle=0.6 * side)


def _steam(pen: Pen) -> None:
    for x in (0.24, 0.48):
        wave = [(x + 0.05 * math.sin(i * 1.3), 0.2 - 0.04 * i) for i in range(5)]
        pen.line(wave, 0.045, (255, 255, 255), outline=False)


def umbrella(pen: Pen, look: Look) -> None:
    first = look.bright()
    second = look.pick((PAPER, look.bright(), shade(first, 0.65)))
    rim, count = look.vary(0.5, 0.03), look.pick((4, 5, 6))
    hook = [(0.5, 0.1), (0.5, 0.88), *pen.arc(0.59, 0.88, 0.09, 0.08, math.pi, 0.0, 6)]
    pen.line(hook, 0.06, look.tint(look.pick(WOODS[:3])))
    pen.line([(0.5, 0.0), (0.5, 0.1)], 0.05, look.pick(STEEL))
    edges = [-0.02 + 1.04 * i / count for i in range(count + 1)]
    for i, (left, right) in enumerate(pairwise(edges)):
        pen.polygon(_panel(pen, left, right, rim), first if i % 2 == 0 else second)
    pen.mark("grip", 0.5, 0.8)


def _panel(pen: Pen, left: float, right: float, rim: float) -> list[Point]:
    """Return one panel of the umbrella: two ribs that meet at the top and a scalloped edge."""
    scallop = pen.arc((left + right) / 2, rim, (right - left) / 2, 0.07, 0.0, -math.pi, 6)
    return [*_rib(left, rim), *reversed(scallop), *reversed(_rib(right, rim))]


def _rib(x: float, rim: float) -> list[Point]:
    reach = x - 0.5
    return [
        (0.5 + reach * math.sin(t), rim - (rim - 0.07) * math.cos(t)) for t in (0, 0.4, 0.8, 1.2, math.pi / 2)
    ]


def ball(pen: Pen, look: Look) -> None:
    look.pick((_beach_ball, _football, _basketball))(pen, look)
    pen.mark("grip", 0.5, 0.92)


def _beach_ball(pen: Pen, look: Look) -> None:
    colours = (look.bright(), PAPER, look.bright(), PAPER, look.bright(), PAPER)
    turn, (x, y) = look.vary(0, 0.5), (0.4, 0.36)
    pen.circle(0.5, 0.5, 0.49, PAPER)
    for i, colour in enumerate(colours):
        rim = pen.arc(0.5, 0.5, 0.49, 0.49, turn + i * math.pi / 3, turn + (i + 1) * math.pi / 3, 5)
        pen.polygon([(x, y), *rim], colour)
    pen.circle(x, y, 0.075, PAPER)


def _football(pen: Pen, look: Look) -> None:
    patch, turn = shade(look.pick((pen.ink, look.bright())), 0.9), look.vary(0, 0.6)
    pen.circle(0.5, 0.5, 0.49, (250, 250, 248))
    for i in range(5):
        t = turn + i * 2 * math.pi / 5
        pen.stroke([(0.5, 0.5), (0.5 + 0.36 * math.cos(t), 0.5 + 0.36 * math.sin(t))])
        rim = pen.arc(0.5, 0.5, 0.48, 0.48, t - 0.33, t + 0.33, 4)
        pen.polygon([*rim, (0.5 + 0.32 * math.cos(t), 0.5 + 0.32 * math.sin(t))], patch)
    pen.polygon(pen.arc(0.5, 0.5, 0.18, 0.18, turn, turn + 1.6 * math.pi, 4), patch)


def _basketball(pen: Pen, look: Look) -> None:
    lean = look.vary(0, 0.5)
    pen.circle(0.5, 0.5, 0.49, look.tint((240, 136, 50)))
    cos, sin = math.cos(lean), math.sin(lean)
    for bow in (-1, 1):
        curve = [(bow * (0.22 + 0.5 * v * v), v) for v in (-0.42, -0.25, 0.0, 0.25, 0.42)]
        pen.stroke([(0.5 + u * cos - v * sin, 0.5 + u * sin + v * cos) for u, v in curve], width=1.6)
    for u, v in ((cos, sin), (-sin, cos)):
        pen.stroke([(0.5 - 0.47 * u, 0.5 - 0.47 * v), (0.5 + 0.47 * u, 0.5 + 0.47 * v)], width=1.6)


DRAWINGS: dict[str, Drawing] = {
    "chair": chair,
    "lamp": lamp,
    "book": book,
    "clock": clock,
    "cup": cup,
    "umbrella": umbrella,
    "ball": ball,
}
