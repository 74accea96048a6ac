"""Drawings of outdoor objects: buildings, vehicles and plants."""

from __future__ import annotations

import math

from safelight.storybook.drawings.drawing import Drawing
from safelight.storybook.look import Look, shade
from safelight.storybook.pen import Colour, Pen, Point

GLASS: Colour = (176, 222, 244)
TYRE: Colour = (58, 56, 66)
LEAF: Colour = (70, 160, 70)
WALLS: tuple[Colour, ...] = (
    (250, 236, 200), (244, 196, 160), (206, 226, 240), (246, 214, 120), (240, 240, 236), (224, 150, 130),
)  # fmt: skip
ROOFS: tuple[Colour, ...] = (
    (196, 64, 52), (150, 76, 54), (86, 100, 150), (110, 84, 120), (70, 130, 120),
)  # fmt: skip
WOODS: tuple[Colour, ...] = ((128, 82, 48), (104, 68, 44), (158, 108, 66))
CROWNS: tuple[Colour, ...] = (
    (66, 156, 70), (104, 180, 66), (44, 124, 84), (156, 184, 62), (222, 170, 66), (240, 166, 190),
)  # fmt: skip
BLOBS = ((0.24, 0.46, 0.21), (0.76, 0.46, 0.21), (0.5, 0.24, 0.25), (0.5, 0.5, 0.2))
PINES: tuple[Colour, ...] = ((36, 116, 74), (56, 138, 92), (40, 108, 96))
PETALS: tuple[Colour, ...] = (
    (232, 74, 96), (244, 140, 184), (250, 210, 64), (250, 250, 246), (156, 106, 206), (240, 146, 56),
)  # fmt: skip
CACTI: tuple[Colour, ...] = ((62, 148, 84), (88, 166, 92), (44, 128, 96))
CLAY: tuple[Colour, ...] = ((206, 108, 66), (224, 140, 92), (96, 140, 190), (232, 196, 110))


def house(pen: Pen, look: Look) -> None:
    wall, roof = look.tint(look.pick(WALLS)), look.tint(look.pick(ROOFS))
    half, eaves = look.vary(0.38, 0.03), look.vary(0.45, 0.04)
    ridge = look.pick((0.0, 0.0, 0.2))
    if look.chance(0.6):
        pen.rect(0.7, 0.06, 0.83, 0.4, shade(wall, 0.75))
    pen.rect(0.5 - half, eaves - 0.05, 0.5 + half, 1.0, wall)
    pen.polygon([(-0.02, eaves), (0.5 - ridge, 0.0), (0.5 + ridge, 0.0), (1.02, eaves)], roof)
    if ridge == 0:
        pen.circle(0.5, eaves * 0.62, 0.075, GLASS)
    _front_door(pen, look, 0.5 - half + 0.08)
    _window(pen, 0.5 + half - 0.31, eaves + 0.11, 0.23)


def _front_door(pen: Pen, look: Look, left: float) -> None:
    pen.rect(left, 0.58, left + 0.22, 1.0, look.bright())
    pen.dot(left + 0.17, 0.8, 0.028, (255, 226, 120))


def _window(pen: Pen, left: float, top: float, size: float) -> None:
    x, y = left + size / 2, top + size / 2
    pen.rect(left, top, left + size, top + size, GLASS)
    pen.stroke([(x, top), (x, top + size)])
    pen.stroke([(left, y), (left + size, y)])


def car(pen: Pen, look: Look) -> None:
    paint, roof = look.bright(), look.vary(0.24, 0.03)
    back, front = look.vary(0.12, 0.08), look.vary(0.64, 0.03)
    pen.polygon([(0.06, 0.6), (back + 0.06, roof), (front, roof), (front + 0.18, 0.6)], paint)
    _car_windows(pen, back + 0.04, front, roof + 0.07)
    pen.polygon([(-0.02, 0.62), (0.03, 0.56), (0.86, 0.56), (1.0, 0.64), (1.03, 0.86), (-0.02, 0.86)], paint)
    if look.chance(0.5):
        pen.rect(0.0, 0.71, 1.01, 0.77, shade(paint, look.pick((0.7, 2.5))), outline=False)
    pen.dot(0.97, 0.69, 0.05, (255, 240, 150))
    pen.rect(0.44, 0.62, 0.54, 0.66, shade(paint, 0.55), outline=False)
    for x in (0.23, 0.77):
        _wheel(pen, x, 0.83, 0.165)


def _car_windows(pen: Pen, back: float, front: float, top: float) -> None:
    middle = (back + front) / 2
    pen.polygon([(back, 0.55), (back + 0.07, top), (middle, top), (middle, 0.55)], GLASS)
    middle += 0.06
    pen.polygon([(middle, 0.55), (middle, top), (front - 0.03, top), (front + 0.09, 0.55)], GLASS)


def _wheel(pen: Pen, x: float, y: float, r: float) -> None:
    pen.circle(x, y, r, TYRE)
    pen.dot(x, y, r * 0.5, (226, 228, 232))


def bicycle(pen: Pen, look: Look) -> None:
    paint, rim = look.bright(), look.tint(TYRE)
    r = look.vary(0.265, 0.015)
    rear, front = (r - 0.07, 0.99 - r), (1.07 - r, 0.99 - r)
    seat, pedals, head = (0.32, 0.34), (0.47, 0.75), (0.69, 0.28)
    for x, y in (rear, front):
        pen.circle(x, y, r, rim)
        pen.circle(x, y, r - 0.08, (240, 240, 236))
    pen.line([rear, seat, pedals, rear], 0.055, paint)
    pen.line([seat, (0.72, 0.4), pedals], 0.055, paint)
    pen.line([(head[0] - 0.02, head[1] - 0.12), front], 0.065, paint)
    _handlebar(pen, look, head)
    pen.line([(0.21, 0.25), (0.4, 0.25)], 0.085, look.tint((96, 62, 48)))
    pen.circle(*pedals, 0.055, shade(paint, 0.6))


def _handlebar(pen: Pen, look: Look, head: Point) -> None:
    x, y = head[0] - 0.02, head[1] - 0.12
    if look.chance(0.3):
        pen.rect(x + 0.08, y + 0.03, x + 0.32, y + 0.2, look.tint((208, 160, 96)))
    sweep = look.pick(([(x - 0.12, y), (x + 0.06, y - 0.02)], [(x - 0.06, y), (x + 0.12, y - 0.04)]))
    pen.line(sweep, 0.06, TYRE)


def boat(pen: Pen, look: Look) -> None:
    paint = look.bright()
    if look.chance(0.6):
        _sails(pen, look)
    else:
        _cabin(pen, look)
    deck = look.vary(0.68, 0.02)
    pen.polygon([(-0.02, deck), (1.04, deck - 0.04), (0.84, 1.0), (0.16, 1.0)], paint)
    stripe = deck + 0.09
    pen.polygon(
        [(0.03, stripe), (0.97, stripe), (0.93, stripe + 0.07), (0.07, stripe + 0.07)],
        shade(paint, look.pick((0.6, 4.0))),
        outline=False,
    )


def _sails(pen: Pen, look: Look) -> None:
    sail, jib = look.pick((((252, 250, 240), look.bright()), (look.bright(), (252, 250, 240))))
    foot, mast = look.vary(0.58, 0.02), look.vary(0.5, 0.04)
    pen.line([(mast, 0.03), (mast, 0.72)], 0.055, look.pick(WOODS))
    pen.polygon([(mast + 0.05, 0.03), (0.96, foot), (mast + 0.05, foot)], sail)
    pen.polygon([(mast - 0.05, 0.14), (mast - 0.05, foot), (0.1, foot)], jib)


def _cabin(pen: Pen, look: Look) -> None:
    flag, left = look.bright(), look.vary(0.2, 0.04)
    pen.line([(0.82, 0.12), (0.82, 0.7)], 0.05, look.pick(WOODS))
    pen.polygon([(0.8, 0.06), (0.8, 0.28), (0.5, 0.17)], flag)
    pen.rect(left, 0.38, 0.72, 0.72, (250, 248, 240))
    pen.rect(left - 0.05, 0.3, 0.77, 0.39, flag)
    for x in (left + 0.13, 0.59):
        pen.circle(x, 0.53, 0.075, GLASS)


def airplane(pen: Pen, look: Look) -> None:
    paint = look.tint(look.pick(((246, 246, 250), (222, 226, 234), (250, 214, 90), (150, 206, 240))))
    trim = look.bright()
    tail, lift = look.vary(0.14, 0.04), look.vary(0.0, 0.02)
    pen.polygon([(0.5, 0.5), (0.34, 0.2), (0.46, 0.2), (0.7, 0.5)], shade(trim, 0.75))
    pen.polygon([(-0.03, tail), (0.12, tail), (0.27, 0.5), (0.06, 0.6)], trim)
    pen.polygon(_fuselage(pen, lift), paint)
    pen.polygon([(0.84, 0.45), (0.9, 0.45), (0.98, 0.56), (0.84, 0.56)], GLASS)
    for i in range(4):
        pen.dot(0.34 + 0.13 * i, 0.53, 0.042, (60, 120, 180))
    pen.polygon([(0.42, 0.66), (0.7, 0.66), (0.36, 1.0), (0.22, 1.0)], trim)
    pen.polygon([(0.0, 0.56), (0.2, 0.56), (0.06, 0.72), (-0.06, 0.72)], shade(trim, 0.85))


def _fuselage(pen: Pen, lift: float) -> list[Point]:
    nose = pen.arc(0.84, 0.58, 0.22, 0.17, -math.pi / 2, math.pi / 2)
    return [(0.0, 0.42 - lift), *nose, (0.22, 0.75), (0.0, 0.58)]


def tree(pen: Pen, look: Look) -> None:
    kind = look.pick((_round_crown, _round_crown, _pine, _oval_crown))
    kind(pen, look, look.tint(look.pick(WOODS)))


def _trunk(pen: Pen, bark: Colour, top: float, half: float) -> None:
    pen.polygon(
        [(0.5 - half, top), (0.5 + half, top), (0.5 + half * 1.6, 1.0), (0.5 - half * 1.6, 1.0)], bark
    )


def _round_crown(pen: Pen, look: Look, bark: Colour) -> None:
    leaf = look.tint(look.pick(CROWNS))
    _trunk(pen, bark, 0.4, look.vary(0.085, 0.015))
    blobs = [(look.vary(x, 0.03), look.vary(y, 0.03), r) for x, y, r in BLOBS]
    for x, y, r in blobs:
        pen.circle(x, y, r, leaf)
    for x, y, r in blobs:
        pen.dot(x, y, r - 0.012, leaf)
    light = shade(leaf, 1.35)
    for x, y, r in blobs[:3]:
        pen.dot(x - 0.04, y - 0.06, r * 0.42, light)


def _oval_crown(pen: Pen, look: Look, bark: Colour) -> None:
    leaf = look.tint(look.pick(CROWNS))
    _trunk(pen, bark, 0.5, look.vary(0.075, 0.015))
    pen.ellipse(0.5, 0.36, look.vary(0.34, 0.04), 0.36, leaf)
    pen.ellipse(0.43, 0.25, 0.14, 0.15, shade(leaf, 1.35), outline=False)
    pen.line([(0.5, 0.76), (0.5, 0.52)], 0.04, bark, outline=False)
    pen.line([(0.5, 0.62), (0.62, 0.5)], 0.04, bark, outline=False)


def _pine(pen: Pen, look: Look, bark: Colour) -> None:
    leaf, spread = look.tint(look.pick(PINES)), look.vary(0.38, 0.03)
    _trunk(pen, bark, 0.7, 0.08)
    for top, foot, share in ((0.42, 0.84, 1.0), (0.2, 0.6, 0.8), (0.0, 0.36, 0.6)):
        half = spread * share
        pen.polygon([(0.5, top), (0.5 + half, foot), (0.5 - half, foot)], leaf)
    pen.polygon([(0.5, 0.03), (0.44, 0.33), (0.34, 0.33)], shade(leaf, 1.4), outline=False)


def flower(pen: Pen, look: Look) -> None:
    stem, bend = look.tint(LEAF), look.vary(0.5, 0.05)
    potted = look.chance(0.35)
    pen.line([(bend, 0.3), (0.5, 0.9)], 0.065, stem)
    for side in (-1, 1):
        height = look.vary(0.72, 0.03)
        pen.ellipse(0.5 + 0.17 * side, height, 0.16, 0.07, stem, angle=-0.5 * side)
    _bloom(pen, look, bend, 0.31)
    if potted:
        _pot(pen, look, 0.8, 0.2)
    pen.mark("grip", 0.5, 0.9)


def _bloom(pen: Pen, look: Look, x: float, y: float) -> None:
    petal = look.tint(look.pick(PETALS))
    count, turn = look.pick((5, 6, 7, 8)), look.vary(0, 0.5)
    width = 0.68 / count + 0.015
    for i in range(count):
        angle = turn + 2 * math.pi * i / count
        pen.ellipse(x + 0.2 * math.cos(angle), y + 0.2 * math.sin(angle), 0.14, width, petal, angle=angle)
    warm = petal[0] > 200 and petal[1] > 170 and petal[2] < 120
    pen.circle(x, y, 0.115, (136, 84, 44) if warm else (252, 206, 60))


def _pot(pen: Pen, look: Look, top: float, half: float) -> None:
    clay = look.tint(look.pick(CLAY))
    pen.polygon(
        [(0.5 - half, top), (0.5 + half, top), (0.5 + half * 0.75, 1.0), (0.5 - half * 0.75, 1.0)], clay
    )
    pen.rect(0.46 - half, top - 0.03, 0.54 + half, top + 0.05, shade(clay, 1.15))


def cactus(pen: Pen, look: Look) -> None:
    skin, half = look.tint(look.pick(CACTI)), look.vary(0.13, 0.015)
    body = [(0.5, half + 0.02), (0.5, 0.86)]
    left, right = _arm(look, -1), _arm(look, 1)
    for path, width in ((left, 0.14), (right, 0.14), (body, 2 * half)):
        pen.line(path, width, skin)
    for path in (left, right):
        pen.line(path, 0.14, skin, outline=False)
    _spines(pen, shade(skin, 2.6))
    if look.chance(0.5):
        _pot(pen, look, 0.8, 0.24)
    else:
        pen.polygon(pen.arc(0.5, 1.0, 0.34, 0.12, math.pi, 2 * math.pi), (226, 196, 130))


def _arm(look: Look, side: int) -> list[Point]:
    elbow, tip = look.vary(0.57, 0.06), look.vary(0.34, 0.05)
    x = 0.5 + side * look.vary(0.34, 0.02)
    return [(0.5, elbow), (x, elbow), (x, tip)]


def _spines(pen: Pen, colour: Colour) -> None:
    for x, y in ((0.44, 0.2), (0.55, 0.3), (0.44, 0.42), (0.55, 0.54), (0.44, 0.66), (0.56, 0.72)):
        pen.line([(x, y), (x, y + 0.05)], 0.035, colour, outline=False)


DRAWINGS: dict[str, Drawing] = {
    "house": house,
    "car": car,
    "bicycle": bicycle,
    "boat": boat,
    "airplane": airplane,
    "tree": tree,
    "flower": flower,
    "cactus": cactus,
}
