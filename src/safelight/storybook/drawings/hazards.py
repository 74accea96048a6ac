"""Drawings of the ten hazards, as friendly cartoons with thick, exaggerated shapes."""

from __future__ import annotations

import math

from safelight.storybook.drawings.drawing import Drawing
from safelight.storybook.look import Look, shade
from safelight.storybook.pen import Colour, Pen, Point

STEEL: tuple[Colour, ...] = ((206, 214, 224), (190, 200, 214), (222, 224, 226))
WOODS: tuple[Colour, ...] = ((176, 112, 58), (140, 84, 44), (206, 150, 84))
BRASSES: tuple[Colour, ...] = ((236, 190, 66), (196, 150, 72), (150, 160, 176))
GRIPS: tuple[Colour, ...] = ((60, 58, 66), (124, 72, 40), (184, 52, 48), (46, 84, 150), (44, 120, 84))
GUNMETAL: tuple[Colour, ...] = ((92, 96, 106), (70, 74, 88), (132, 138, 148), (84, 92, 84))
PAPERS: tuple[Colour, ...] = ((248, 240, 214), (252, 250, 246), (246, 218, 120), (236, 150, 120))
GLASSES: tuple[Colour, ...] = ((56, 140, 76), (34, 104, 66), (152, 88, 40), (116, 62, 34), (60, 118, 190))
MEDICINES: tuple[Colour, ...] = ((80, 200, 110), (240, 110, 160), (70, 160, 235), (246, 190, 60))
SMOKE: Colour = (176, 178, 186)


def _spark(pen: Pen, x: float, y: float, r: float) -> None:
    star = [
        (x + k * r * math.cos(i * math.pi / 6), y + k * r * math.sin(i * math.pi / 6))
        for i, k in enumerate((1, 0.5) * 6)
    ]
    pen.polygon(star, (255, 146, 36))
    pen.dot(x, y, r * 0.45, (255, 240, 120))


def knife(pen: Pen, look: Look) -> None:
    steel, handle = look.tint(look.pick(STEEL)), look.tint(look.pick(GRIPS))
    heel, spine, edge = look.vary(0.65, 0.03), look.vary(0.34, 0.015), look.vary(0.67, 0.02)
    belly = pen.arc(spine, 0.4, edge - spine, 0.42, -1.4, 0, 6)
    pen.polygon([(spine, -0.03), *belly, (edge, heel), (spine, heel)], steel)
    bevel = pen.arc(spine, 0.42, edge - spine - 0.03, 0.36, -0.8, 0, 4)
    pen.polygon(
        [*bevel, (edge - 0.03, heel - 0.03), (edge - 0.12, heel - 0.03)], shade(steel, 2), outline=False
    )
    butt = [(0.56, 0.95), (0.53, 1), (0.4, 1), (0.35, 0.95)]
    pen.polygon([(0.36, heel), (0.53, heel), (0.53, 0.8), *butt], handle)
    for y in (heel + 0.08, heel + 0.17, heel + 0.26):
        pen.dot(0.447, y, 0.034, (244, 236, 206))
    pen.mark("grip", 0.45, 0.85)


def gun(pen: Pen, look: Look) -> None:
    metal = look.tint(look.pick(GUNMETAL))
    stock = look.tint(look.pick([*GRIPS[:2], shade(metal, 0.6)]))
    top, tail = look.vary(0.2, 0.02), look.vary(0.08, 0.03)
    pen.line(pen.arc(0.5, 0.5, 0.14, 0.17, 0, math.pi), 0.055, metal)
    pen.stroke([(0.47, 0.48), (0.52, 0.58)], width=1.6)
    heel, toe = tail - 0.06, tail + 0.24
    pen.polygon([(0.12, 0.42), (0.42, 0.42), (toe, 1), (heel, 0.96), (tail + 0.03, 0.6)], stock)
    pen.line([(tail + 0.08, 0.7), (tail + 0.18, 0.71)], 0.05, shade(stock, 1.6), outline=False)
    if look.chance(0.5):
        _slide(pen, look, metal, top)
    else:
        _revolver(pen, metal, top)
    pen.mark("grip", tail + 0.12, 0.76)


def _slide(pen: Pen, look: Look, metal: Colour, top: float) -> None:
    pen.rect(0.86, top - 0.07, 0.93, top + 0.02, metal)
    pen.polygon([(0.02, top), (1, top), (1, 0.5), (0.1, 0.5), (0.02, 0.42)], metal)
    pen.rect(0.05, top + 0.03, 0.97, top + 0.1, shade(metal, 1.7), outline=False)
    for i in range(look.pick([2, 3])):
        pen.stroke([(0.12 + 0.07 * i, top + 0.08), (0.12 + 0.07 * i, 0.42)], width=1.2)
    pen.rect(0.93, top + 0.09, 1.0, 0.41, (38, 34, 44))


def _revolver(pen: Pen, metal: Colour, top: float) -> None:
    pen.polygon([(0.0, top - 0.02), (0.12, top + 0.06), (0.14, 0.4), (0.06, 0.36)], metal)
    pen.rect(0.9, top - 0.06, 0.97, top + 0.03, metal)
    pen.polygon([(0.1, top), (1, top), (1, 0.43), (0.5, 0.43), (0.5, 0.5), (0.1, 0.5)], metal)
    pen.rect(0.58, top + 0.03, 0.97, top + 0.09, shade(metal, 1.7), outline=False)
    pen.rect(0.24, top - 0.04, 0.54, 0.54, shade(metal, 1.4))
    for y in (top + 0.08, top + 0.2):
        pen.stroke([(0.28, y), (0.5, y)], width=1.3)


def bomb(pen: Pen, look: Look) -> None:
    if look.chance(0.6):
        _round_bomb(pen, look)
    else:
        _dynamite(pen, look)


def _round_bomb(pen: Pen, look: Look) -> None:
    body = look.tint(look.pick([(52, 52, 62), (66, 68, 84), (44, 48, 70)]), 8)
    r, lean = look.vary(0.35, 0.015), look.vary(0.06, 0.03)
    x, y = 0.47, 1 - r
    fuse = [(x + lean, 0.34), (x + lean + 0.02, 0.2), (x + 0.16, 0.13), (x + 0.27, 0.16)]
    pen.line(fuse, 0.055, look.tint((226, 190, 120)))
    pen.rect(x + lean - 0.12, 0.26, x + lean + 0.12, 0.42, shade(body, 1.5))
    pen.circle(x, y, r, body)
    pen.ellipse(x - 0.14, y - 0.14, 0.1, 0.065, shade(body, 4), outline=False, angle=-0.8)
    _spark(pen, x + 0.31, 0.16, look.vary(0.16, 0.02))
    pen.mark("grip", x, 0.88)


def _dynamite(pen: Pen, look: Look) -> None:
    red, band = look.tint((222, 52, 44)), look.tint(look.pick([(56, 54, 62), (244, 214, 90)]))
    top = look.vary(0.36, 0.02)
    pen.line([(0.5, top), (0.47, 0.24), (0.54, 0.16), (0.66, 0.15)], 0.055, look.tint((226, 190, 120)))
    for x, lift in ((0.26, 0.05), (0.74, 0.05), (0.5, 0)):
        pen.rect(x - 0.12, top + lift, x + 0.12, 1 - 0.6 * lift, red)
        pen.rect(x - 0.12, top + lift, x + 0.12, top + lift + 0.08, shade(red, 1.8))
        pen.rect(x - 0.08, top + lift + 0.11, x - 0.03, 0.93, shade(red, 1.5), outline=False)
    pen.rect(0.11, 0.6, 0.89, 0.77, band)
    _spark(pen, 0.72, 0.15, look.vary(0.16, 0.02))
    pen.mark("grip", 0.5, 0.88)


def axe(pen: Pen, look: Look) -> None:
    wood, steel = look.tint(look.pick(WOODS)), look.tint(look.pick(STEEL))
    paint = look.tint(look.pick([(200, 54, 48), (110, 118, 132), (60, 100, 160)]))
    x, flare = 0.36, look.vary(0.05, 0.025)
    foot = [(x + 0.06, 0.86), (x + 0.1, 1), (x - 0.09, 1), (x - 0.06, 0.86)]
    pen.polygon([(x - 0.06, 0), (x + 0.06, 0), *foot], wood)
    edge = pen.arc(0.72, 0.27, 0.18, 0.26 + flare, -math.pi / 2, math.pi / 2, 6)
    butt = look.vary(x - 0.18, 0.02)
    pen.polygon([(x + 0.12, 0.15), *edge, (x + 0.12, 0.37), (butt, 0.4), (butt, 0.12)], paint)
    inner = pen.arc(0.68, 0.27, 0.08, 0.24 + flare, math.pi / 2, -math.pi / 2, 6)
    pen.polygon([*edge, *inner], steel)
    pen.rect(x - 0.06, 0.16, x, 0.36, shade(paint, 1.5), outline=False)
    pen.mark("grip", x, 0.8)


def sword(pen: Pen, look: Look) -> None:
    steel, gold = look.tint(look.pick(STEEL)), look.tint(look.pick(BRASSES))
    guard = look.vary(0.72, 0.02)
    pen.rect(0.44, guard, 0.56, 0.92, look.tint(look.pick(GRIPS)))
    if look.chance(0.55):
        _straight_blade(pen, steel, guard)
    else:
        _cutlass_blade(pen, look, steel, guard)
    half, droop = look.vary(0.32, 0.03), look.pick([-0.06, 0, 0.05])
    end = guard + droop
    pen.line([(0.5 - half, end), (0.42, guard), (0.58, guard), (0.5 + half, end)], 0.09, gold)
    pen.circle(0.5, 0.94, 0.085, look.pick([gold, (214, 60, 70)]))
    pen.mark("grip", 0.5, 0.83)


def _straight_blade(pen: Pen, steel: Colour, guard: float) -> None:
    pen.polygon([(0.5, -0.08), (0.585, 0.06), (0.585, guard), (0.415, guard), (0.415, 0.06)], steel)
    pen.polygon([(0.5, -0.02), (0.56, 0.08), (0.56, guard), (0.5, guard)], shade(steel, 0.75), outline=False)


def _cutlass_blade(pen: Pen, look: Look, steel: Colour, guard: float) -> None:
    bend = look.vary(0.24, 0.04)
    back = [(0.42 + bend * t * t, guard - (guard + 0.07) * t) for t in (0, 0.25, 0.5, 0.75, 1)]
    front = [(0.6 + bend * t * t, guard - (guard + 0.07) * t) for t in (0.82, 0.6, 0.4, 0.2, 0)]
    pen.polygon([*back, *front], steel)
    pen.stroke([(x + 0.06, y) for x, y in back[:4]], shade(steel, 0.7), 1.6)


def syringe(pen: Pen, look: Look) -> None:
    glass, liquid = look.tint((236, 246, 250), 6), look.tint(look.pick(MEDICINES))
    half, level = look.vary(0.165, 0.015), look.vary(0.54, 0.05)
    left, right, bottom = 0.5 - half, 0.5 + half, 0.76
    rim = look.pick([glass, liquid])
    pen.line([(0.5, -0.04), (0.5, 0.22)], 0.05, (222, 226, 234))
    pen.polygon([(0.44, 0.21), (0.56, 0.21), (0.6, 0.29), (0.4, 0.29)], shade(liquid, 0.8))
    pen.rect(left, 0.28, right, bottom, glass)
    pen.rect(left + 0.02, 0.3, right - 0.02, level, liquid, outline=False)
    pen.rect(0.43, level, 0.57, 0.96, (200, 206, 218))
    pen.rect(left, level, right, level + 0.08, (60, 62, 74))
    for y in (0.36, 0.45):
        pen.stroke([(0.52, y), (right, y)], width=1.5)
    pen.line([(left - 0.1, bottom), (right + 0.1, bottom)], 0.06, rim)
    pen.line([(0.34, 0.97), (0.66, 0.97)], 0.07, rim)
    pen.mark("grip", 0.5, 0.86)


def cigarette(pen: Pen, look: Look) -> None:
    angle, curl = look.vary(-0.45, 0.1), look.vary(0.08, 0.015)
    cos, sin = math.cos(angle), math.sin(angle)
    mouth, ash = look.vary(0.34, 0.03), look.vary(0.84, 0.02)

    def along(t: float, side: float = 0) -> Point:
        """Return the point at ``t`` of the length (0 mouth, 1 tip), at distance ``side`` from the axis."""
        return 0.04 + t * cos - side * sin, 0.88 + t * sin + side * cos

    def piece(a: float, b: float, colour: Colour) -> None:
        pen.polygon([along(a, -0.13), along(b, -0.13), along(b, 0.13), along(a, 0.13)], colour)

    x, y = along(0.98)
    smoke = [(x + curl * math.sin(i * 1.2), y - 0.13 - (y - 0.1) * i / 8) for i in range(9)]
    pen.line(smoke, 0.085, look.tint(SMOKE, 8))
    piece(0, 1, (252, 252, 248))
    piece(0, mouth, look.tint((216, 128, 48)))
    piece(ash, 1, look.tint((200, 44, 26)))
    pen.dot(*along(0.92), 0.06, (255, 220, 90))
    pen.stroke([along(mouth + 0.06, -0.11), along(mouth + 0.06, 0.11)], (196, 152, 70), 1.4)
    pen.mark("grip", *along(0.16))


def bottle(pen: Pen, look: Look) -> None:
    glass, paper = look.tint(look.pick(GLASSES)), look.tint(look.pick(PAPERS), 6)
    half, shoulder = look.vary(0.2, 0.02), look.vary(0.42, 0.04)
    wine = look.chance(0.5)
    slope = 0.05 if wine else 0.14
    top = pen.arc(0.5, shoulder, half, 0.1, -1.1, 0, 4) if wine else [(0.5 + half, shoulder)]
    right = [(0.58, 0.1), (0.58, shoulder - slope - 0.06), *top, (0.5 + half, 0.96), (0.46 + half, 1)]
    pen.polygon([*right, *((1 - x, y) for x, y in reversed(right))], glass)
    pen.rect(0.54 - half, shoulder + 0.04, 0.59 - half, 0.95, shade(glass, 2), outline=False)
    pen.rect(0.5 - half, 0.56, 0.5 + half, 0.84, paper)
    _emblem(pen, look, half)
    if wine:
        pen.rect(0.445, -0.02, 0.555, 0.1, (214, 166, 110))
        pen.rect(0.4, 0.07, 0.6, 0.15, shade(glass, 0.8))
    else:
        pen.rect(
            0.39, 0.02, 0.61, 0.12, look.tint(look.pick([(240, 200, 70), (210, 60, 54), (206, 212, 222)]))
        )
    pen.mark("grip", 0.5, 0.7)


def _emblem(pen: Pen, look: Look, half: float) -> None:
    colour = look.bright()
    if look.chance(0.5):
        pen.rect(0.5 - half + 0.03, 0.66, 0.47 + half, 0.74, colour, outline=False)
    else:
        pen.ellipse(0.5, 0.7, 0.1, 0.08, colour)


def blood(pen: Pen, look: Look) -> None:
    red = look.tint(look.pick([(206, 28, 36), (186, 22, 34), (222, 44, 44)]), 8)
    start = look.vary(0, 0.4)
    reach = [look.vary(0.83, 0.18) for _ in range(look.pick([6, 7, 8]))]
    pen.polygon(_splat(reach, start, 0), shade(red, 0.6))
    pen.polygon(_splat(reach, start, 0.13), red, outline=False)
    pen.ellipse(look.vary(0.36, 0.04), 0.65, 0.09, 0.045, shade(red, 2.4), outline=False, angle=-0.3)
    for x, y, r in ((0.5, 0.24, 0.105), (0.82, 0.3, 0.075), (0.18, 0.32, 0.07)):
        _drop(pen, look.vary(x, 0.05), look.vary(y, 0.03), r, red)


def _splat(reach: list[float], start: float, inset: float) -> list[Point]:
    """Return the outline of a puddle: rounded fingers of lengths ``reach`` with smooth dips between them."""
    points: list[Point] = []
    for i, far in enumerate(reach):
        for step, r in (
            (-0.3, 0.68),
            (-0.2, far),
            (-0.1, far + 0.1),
            (0.1, far + 0.1),
            (0.2, far),
            (0.3, 0.68),
        ):
            turn = start + 2 * math.pi * (i + step) / len(reach)
            points.append(
                (0.5 + (r - inset) * 0.5 * math.cos(turn), 0.73 + (r - inset) * 0.28 * math.sin(turn))
            )
    return points


def _drop(pen: Pen, x: float, y: float, r: float, red: Colour) -> None:
    pen.polygon([(x, y - 2.3 * r), *pen.arc(x, y, r, r, -0.4, math.pi + 0.4, 8)], red)
    pen.dot(x - 0.3 * r, y, 0.28 * r, shade(red, 2.4))


FLAME: tuple[Point, ...] = (
    (-0.3, 0), (-0.42, -0.14), (-0.44, -0.3), (-0.36, -0.46), (-0.38, -0.66), (-0.24, -0.52), (-0.17, -0.42),
    (-0.14, -0.6), (-0.06, -0.8), (0.06, -1), (0.08, -0.82), (0.17, -0.64), (0.2, -0.46),
    (0.27, -0.56), (0.32, -0.74), (0.4, -0.52), (0.45, -0.3), (0.42, -0.14), (0.3, 0),
)  # fmt: skip


def fire(pen: Pen, look: Look) -> None:
    camp = look.chance(0.5)
    base = 0.9 if camp else 1.0
    lean, wide, tall = look.vary(0, 0.08), look.vary(1.0, 0.08), base + look.vary(0, 0.04)
    flip = look.pick([-1, 1])
    if camp:
        wood = look.tint(look.pick(WOODS))
        pen.line([(0.1, 0.82), (0.88, 0.95)], 0.11, wood)
        pen.line([(0.9, 0.82), (0.12, 0.95)], 0.11, shade(wood, 0.8))
    layers = ((1.0, (226, 56, 34)), (0.68, (250, 140, 32)), (0.38, (255, 226, 84)))
    for scale, colour in layers:
        points = [
            (0.5 + flip * scale * wide * x - lean * scale * y, base + scale * tall * y) for x, y in FLAME
        ]
        pen.polygon(points, look.tint(colour, 10), outline=scale == 1)


DRAWINGS: dict[str, Drawing] = {
    "knife": knife,
    "gun": gun,
    "bomb": bomb,
    "axe": axe,
    "sword": sword,
    "syringe": syringe,
    "cigarette": cigarette,
    "bottle": bottle,
    "blood": blood,
    "fire": fire,
}
