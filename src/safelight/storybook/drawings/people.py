"""Drawings of people: a shared figure with a big head, and the clothes of each person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from safelight.storybook.drawings.drawing import Drawing
from safelight.storybook.look import HAIRS, Look, shade
from safelight.storybook.pen import INK, Colour, Pen, Point

WHITE: Colour = (250, 250, 246)
BLACK: Colour = (44, 40, 50)
GOLD: Colour = (250, 206, 60)
RED: Colour = (214, 48, 48)
LEATHER: tuple[Colour, ...] = ((60, 46, 42), (110, 70, 44), (44, 44, 54))
TROUSERS: tuple[Colour, ...] = ((58, 72, 112), (96, 84, 72), (70, 70, 78), (150, 128, 92), (64, 96, 84))
NAVIES: tuple[Colour, ...] = ((34, 48, 100), (40, 56, 118), (28, 40, 80))
KHAKIS: tuple[Colour, ...] = ((104, 122, 66), (128, 124, 78), (82, 108, 72))
SCRUBS: tuple[Colour, ...] = ((70, 176, 150), (80, 160, 210), (110, 190, 120))

YOUNG_HAIRS = HAIRS[:-1]

SIDE_PARTING: tuple[Point, ...] = (
    (1.0, -0.1), (0.75, -0.5), (-0.1, -0.4), (-0.5, -0.75), (-0.8, -0.35), (-1.0, -0.05),
)  # fmt: skip
STRAIGHT_FRINGE: tuple[Point, ...] = ((1.05, 0.1), (0.85, -0.3), (-0.85, -0.3), (-1.05, 0.1))
SPIKY_FRINGE: tuple[Point, ...] = (
    (1.0, 0.0), (0.7, -0.5), (0.45, -0.25), (0.1, -0.55), (-0.2, -0.25), (-0.5, -0.55), (-0.75, -0.25),
    (-1.0, 0.0),
)  # fmt: skip
MIDDLE_PARTING: tuple[Point, ...] = ((1.05, 0.2), (0.8, -0.2), (0.0, -0.75), (-0.8, -0.2), (-1.05, 0.2))


@dataclass(frozen=True)
class Body:
    """Proportions of a figure; hats, hair and faces are in head radii from the centre of the head."""

    skin: Colour
    head_y: float
    head: float = 0.19
    width: float = 0.15
    reach: Point = (0.86, 0.56)

    @property
    def neck(self) -> float:
        return self.head_y + 0.84 * self.head

    def down(self, share: float) -> float:
        """Return the height at ``share`` of the way from the neck (0) to the ground (1)."""
        return self.neck + share * (1 - self.neck)

    def at(self, u: float, v: float) -> Point:
        return 0.5 + u * self.head, self.head_y + v * self.head

    def on_head(self, points: Sequence[Point]) -> list[Point]:
        return [self.at(u, v) for u, v in points]


@dataclass(frozen=True)
class Clothes:
    """Colours and cut; the top reaches down to the share ``hem`` and widens by ``flare``."""

    top: Colour
    legs: Colour
    shoes: Colour
    sleeve: Colour
    hem: float = 0.52
    flare: float = 1.0


def _body(look: Look, head_y: float, head: float = 0.19, width: float = 0.15) -> Body:
    return Body(look.skin(), head_y, look.vary(head, 0.008), look.vary(width, 0.015))


def _figure(pen: Pen, look: Look, body: Body, clothes: Clothes) -> None:
    """Draw the body with its clothes, and the head without hair or face."""
    for side in (-1, 1):
        _leg(pen, body, clothes, side)
    _arm(pen, body, clothes.sleeve, -1, _resting_hand(look, body, -1))
    hand = body.reach if look.holding else _resting_hand(look, body, 1)
    _arm(pen, body, clothes.sleeve, 1, hand)
    pen.mark("hand", *hand)
    top, hem = 0.8 * body.width, clothes.flare * body.width
    low = body.down(clothes.hem)
    pen.polygon(
        [(0.5 - top, body.neck), (0.5 + top, body.neck), (0.5 + hem, low), (0.5 - hem, low)], clothes.top
    )
    pen.ellipse(0.5, body.head_y, body.head, 0.95 * body.head, body.skin)


def _leg(pen: Pen, body: Body, clothes: Clothes, side: int) -> None:
    x = 0.5 + side * 0.55 * body.width
    half = 0.38 * body.width
    pen.rect(x - half, body.down(0.45), x + half, 0.95, clothes.legs)
    pen.ellipse(x + side * 0.015, 0.955, 0.6 * body.width, 0.045, clothes.shoes)


def _resting_hand(look: Look, body: Body, side: int) -> Point:
    """Return the position of a hand whose arm hangs down or stands out to the side."""
    out, low = (0.125, 0.52) if look.chance(0.6) else (0.17, 0.34)
    return 0.5 + side * (body.width + look.vary(out, 0.015)), body.down(look.vary(low, 0.04))


def _arm(pen: Pen, body: Body, sleeve: Colour, side: int, hand: Point) -> None:
    x, y = 0.5 + side * 0.75 * body.width, body.down(0.1)
    elbow = (x + hand[0]) / 2 + side * 0.02, (y + hand[1]) / 2 + 0.03
    pen.line([(x, y), elbow, hand], 0.55 * body.width, sleeve)
    pen.circle(*hand, 0.36 * body.width + 0.005, body.skin)


def _face(
    pen: Pen, look: Look, body: Body, eyes: Sequence[int] = (-1, 1), mouth: Colour = INK, level: float = 0.1
) -> None:
    """Draw the eyes at ``level``, which is lower under a brimmed hat, and a smile below them."""
    gap, glance = look.vary(0.38, 0.04), look.vary(0.06, 0.05)
    for side in eyes:
        pen.ellipse(*body.at(side * gap, level), 0.2 * body.head, 0.25 * body.head, WHITE, outline=False)
        pen.dot(*body.at(side * gap + glance, level + 0.02), 0.15 * body.head)
    high = 0.42 + level
    low = high + look.vary(0.14, 0.08)
    pen.stroke(body.on_head(((-0.28, high), (-0.1, low), (0.1, low), (0.28, high))), mouth, 1.2)


def _dome(body: Body, grown: float, level: float) -> list[Point]:
    """Return the outline of the top of the head, of ``grown`` head radii, cut off at ``level``."""
    steps = [math.pi * (1 + i / 10) for i in range(11)]
    return body.on_head([(grown * math.cos(a), level + (grown + level) * math.sin(a)) for a in steps])


def _hair(pen: Pen, body: Body, colour: Colour, fringe: Sequence[Point]) -> None:
    pen.polygon([*_dome(body, 1.1, 0.0), *body.on_head(fringe)], colour)


def _long_hair(pen: Pen, body: Body, colour: Colour, length: float, width: float) -> None:
    """Draw hair behind the shoulders; call it before the figure is drawn."""
    ends = body.on_head(((width, length), (-width, length)))
    pen.polygon([*_dome(body, 1.15, 0.0), *ends], colour)


def _side_hair(pen: Pen, look: Look, body: Body, colour: Colour) -> None:
    """Draw the hair visible under a hat, a bob or short sides; call it before the figure is drawn."""
    if look.chance(0.45):
        _long_hair(pen, body, colour, look.vary(0.85, 0.2), look.vary(1.25, 0.08))
    else:
        pen.ellipse(*body.at(0, -0.15), 1.12 * body.head, 0.6 * body.head, colour)


def _beard(pen: Pen, body: Body, colour: Colour, length: float) -> None:
    sides = pen.arc(0.5, body.head_y, 1.03 * body.head, length * body.head, 0.05, math.pi - 0.05)
    pen.polygon([*sides, *body.on_head(((-0.65, 0.35), (0, 0.25), (0.65, 0.35)))], colour)


def _moustache(pen: Pen, body: Body, colour: Colour) -> None:
    points = ((0, 0.3), (0.45, 0.4), (0.62, 0.66), (0, 0.5), (-0.62, 0.66), (-0.45, 0.4))
    pen.polygon(body.on_head(points), colour, outline=False)


def _cross(pen: Pen, x: float, y: float, r: float) -> None:
    pen.circle(x, y, 1.5 * r, WHITE, outline=False)
    pen.rect(x - r, y - r / 3, x + r, y + r / 3, RED, outline=False)
    pen.rect(x - r / 3, y - r, x + r / 3, y + r, RED, outline=False)


def _spots(pen: Pen, points: Sequence[Point], radius: float, colour: Colour) -> None:
    for x, y in points:
        pen.ellipse(x, y, 1.4 * radius, radius, colour, outline=False)


def child(pen: Pen, look: Look) -> None:
    """Draw a child: smaller than adults, with a large round head and a short body in shorts."""
    body = Body(look.skin(), look.vary(0.46, 0.01), look.vary(0.215, 0.008), 0.125, reach=(0.84, 0.66))
    hair, shirt, shorts = look.tint(look.pick(YOUNG_HAIRS), 8), look.bright(), look.bright()
    style = look.pick((_pigtails, _bob, _propeller_cap, _tousled))
    if style is _pigtails:
        for side in (-1, 1):
            pen.circle(*body.at(side * 1.25, -0.1), 0.42 * body.head, hair)
    _figure(pen, look, body, Clothes(shirt, body.skin, look.bright(), shirt, hem=0.55, flare=1.05))
    _shorts(pen, body, shorts)
    if look.chance(0.5):
        _straps(pen, body, shade(shorts, 0.6))
    _face(pen, look, body)
    style(pen, look, body, hair)


def _shorts(pen: Pen, body: Body, colour: Colour) -> None:
    w, top, low = 1.1 * body.width, body.down(0.5), body.down(0.75)
    pen.polygon([(0.5 - w, top), (0.5 + w, top), (0.5 + w, low), (0.5, low - 0.02), (0.5 - w, low)], colour)


def _straps(pen: Pen, body: Body, colour: Colour) -> None:
    for side in (-0.55, 0.55):
        x = 0.5 + side * body.width
        pen.line([(x, body.down(0.08)), (x, body.down(0.5))], 0.035, colour, outline=False)


def _pigtails(pen: Pen, look: Look, body: Body, hair: Colour) -> None:
    _hair(pen, body, hair, look.pick((STRAIGHT_FRINGE, MIDDLE_PARTING)))


def _bob(pen: Pen, look: Look, body: Body, hair: Colour) -> None:
    sides = ((1.2, 0.6), (0.8, 0.6), (0.8, -0.25), (-0.8, -0.25), (-0.8, 0.6), (-1.2, 0.6))
    pen.polygon([*_dome(body, 1.15, 0.0), *body.on_head(sides)], hair)


def _tousled(pen: Pen, look: Look, body: Body, hair: Colour) -> None:
    _hair(pen, body, hair, SPIKY_FRINGE)
    pen.polygon(body.on_head(((-0.3, -0.95), (-0.35, -1.4), (0.0, -1.15), (0.25, -1.45), (0.4, -0.95))), hair)


def _propeller_cap(pen: Pen, look: Look, body: Body, hair: Colour) -> None:
    cap, other = look.bright(), look.bright()
    blade = look.vary(0.0, 0.15)
    pen.line(body.on_head(((-0.5, -1.3 + blade), (0.5, -1.3 - blade))), 0.05, other)
    pen.polygon(_dome(body, 1.1, -0.2), cap)
    pen.polygon(
        body.on_head(((0, -1.1), (0.35, -0.8), (0.4, -0.2), (-0.4, -0.2), (-0.35, -0.8))),
        other,
        outline=False,
    )
    pen.line(body.on_head(((0.1, -0.2), (1.3, -0.2))), 0.04, cap)


def woman(pen: Pen, look: Look) -> None:
    """Draw a woman with long loose hair and a wide dress or skirt."""
    body = _body(look, 0.24, 0.185, 0.13)
    hair, dress = look.hair(), look.bright()
    _long_hair(pen, body, hair, look.vary(1.75, 0.25), look.vary(1.35, 0.12))
    sleeve = look.pick((dress, body.skin, shade(dress, 1.6)))
    _figure(
        pen,
        look,
        body,
        Clothes(dress, body.skin, look.bright(), sleeve, hem=0.76, flare=look.vary(1.75, 0.15)),
    )
    _dress(pen, look, body, dress)
    _face(pen, look, body, mouth=(180, 40, 60))
    _hair(pen, body, hair, look.pick((SIDE_PARTING, STRAIGHT_FRINGE, MIDDLE_PARTING)))
    if look.chance(0.4):
        pen.line(
            body.on_head(((-0.85, -0.62), (0, -0.95), (0.85, -0.62))), 0.03, look.bright(), outline=False
        )


def _dress(pen: Pen, look: Look, body: Body, dress: Colour) -> None:
    """Draw a blouse over the skirt, a belt, or a border along the hem."""
    waist, border = body.down(0.36), body.down(0.66)
    light = shade(dress, 2.6)
    if look.chance(0.35):
        top, low = 0.8 * body.width, 1.2 * body.width
        pen.polygon(
            [(0.5 - top, body.neck), (0.5 + top, body.neck), (0.5 + low, waist), (0.5 - low, waist)], light
        )
    elif look.chance(0.5):
        pen.line(
            [(0.5 - body.width, waist), (0.5 + body.width, waist)], 0.05, shade(dress, 0.5), outline=False
        )
    if look.chance(0.5):
        w = 1.55 * body.width
        pen.line([(0.5 - w, border), (0.5 + w, border)], 0.04, light, outline=False)


def man(pen: Pen, look: Look) -> None:
    """Draw a man: broad shoulders, trousers, short or no hair, often a beard, a moustache or a tie."""
    body = _body(look, 0.225, 0.185, 0.175)
    hair, shirt = look.hair(), look.bright()
    bald = look.chance(0.3)
    if bald:
        pen.ellipse(*body.at(0, 0.05), 1.15 * body.head, 0.4 * body.head, hair)
    _figure(pen, look, body, Clothes(shirt, look.tint(look.pick(TROUSERS)), look.pick(LEATHER), shirt))
    _shirt_front(pen, look, body, shirt)
    _whiskers(pen, look, body, hair, 0.9 if bald else 0.7)
    if not bald:
        _hair(pen, body, hair, look.pick((SIDE_PARTING, SPIKY_FRINGE)))


def _shirt_front(pen: Pen, look: Look, body: Body, shirt: Colour) -> None:
    """Draw a tie on a white collar, braces, or a stripe across the chest."""
    kind, dark = look.pick(("tie", "braces", "stripe", "plain")), shade(shirt, 0.45)
    if kind == "tie":
        pen.polygon([(0.4, body.neck), (0.6, body.neck), (0.5, body.down(0.3))], WHITE)
        tie = ((-0.02, 0.0), (0.02, 0.0), (0.05, 0.34), (0.0, 0.46), (-0.05, 0.34))
        pen.polygon([(0.5 + x, body.down(share)) for x, share in tie], dark)
    elif kind == "braces":
        _straps(pen, body, dark)
    elif kind == "stripe":
        w, y = 0.85 * body.width, body.down(0.3)
        pen.rect(0.5 - w, y - 0.03, 0.5 + w, y + 0.03, shade(shirt, 3), outline=False)


def _whiskers(pen: Pen, look: Look, body: Body, hair: Colour, chance: float) -> None:
    """Draw the face, with probability ``chance`` with a beard or a moustache."""
    kind = look.pick((_beard, _moustache)) if look.chance(chance) else None
    if kind is _beard:
        _beard(pen, body, hair, look.vary(1.08, 0.1))
    _face(pen, look, body, mouth=shade(hair, 3) if kind is _beard else INK)
    if kind is _moustache:
        _moustache(pen, body, hair)


def chef(pen: Pen, look: Look) -> None:
    """Draw a chef with a tall white toque, a double-breasted white jacket and a neckerchief."""
    body = _body(look, 0.355, 0.165, 0.165)
    hair = look.hair()
    _side_hair(pen, look, body, hair)
    trousers = look.pick(((70, 70, 80), (120, 124, 136), (50, 60, 90)))
    _figure(pen, look, body, Clothes(WHITE, trousers, BLACK, WHITE, hem=0.62, flare=1.1))
    for side in (-0.4, 0.4):
        for share in (0.3, 0.47):
            pen.dot(0.5 + side * body.width, body.down(share), 0.02)
    kerchief = [(0.39, body.neck), (0.61, body.neck), (0.5, body.down(0.24))]
    pen.polygon(kerchief, look.tint(look.pick((RED, (60, 110, 200), (240, 150, 40), (80, 160, 80)))))
    _face(pen, look, body)
    if look.chance(0.4):
        _moustache(pen, body, hair)
    _toque(pen, body, look.vary(-1.35, 0.12))


def _toque(pen: Pen, body: Body, level: float) -> None:
    puffs: list[Point] = []
    for u, v, r, start, end in (
        (-0.7, 0.0, 0.5, 0.5, 1.45), (0.0, -0.2, 0.55, 1.1, 1.9), (0.7, 0.0, 0.5, 1.55, 2.5),
    ):  # fmt: skip
        puffs += pen.arc(
            *body.at(u, level + v), r * body.head, r * body.head, start * math.pi, end * math.pi, 6
        )
    pen.polygon([*body.on_head(((-0.85, -0.5),)), *puffs, *body.on_head(((0.85, -0.5),))], WHITE)
    pen.polygon(body.on_head(((-0.92, -0.8), (0.92, -0.8), (0.95, -0.35), (-0.95, -0.35))), WHITE)


def doctor(pen: Pen, look: Look) -> None:
    """Draw a doctor with a white coat over scrubs, a stethoscope, and a scrub cap or a head mirror."""
    body = _body(look, 0.26, 0.19, 0.155)
    hair, scrubs = look.hair(), look.tint(look.pick(SCRUBS))
    _side_hair(pen, look, body, hair)
    _figure(pen, look, body, Clothes(WHITE, scrubs, WHITE, WHITE, hem=0.76, flare=1.25))
    pen.polygon([(0.4, body.neck), (0.6, body.neck), (0.5, body.down(0.36))], scrubs)
    pen.stroke([(0.5, body.down(0.36)), (0.5, body.down(0.76))])
    _stethoscope(pen, body)
    _face(pen, look, body)
    if look.chance(0.6):
        pen.polygon(_dome(body, 1.12, -0.15), scrubs)
        _cross(pen, *body.at(0, -0.62), 0.075)
    else:
        _head_mirror(pen, look, body, hair)


def _stethoscope(pen: Pen, body: Body) -> None:
    tube = ((-0.1, 0.02), (-0.1, 0.2), (0.0, 0.34), (0.1, 0.2), (0.1, 0.02))
    pen.stroke([(0.5 + x, body.down(share)) for x, share in tube], BLACK, 2)
    pen.stroke([(0.5, body.down(0.34)), (0.5, body.down(0.46))], BLACK, 2)
    pen.circle(0.5, body.down(0.48), 0.045, (190, 196, 206))


def _head_mirror(pen: Pen, look: Look, body: Body, hair: Colour) -> None:
    _hair(pen, body, hair, look.pick((SIDE_PARTING, STRAIGHT_FRINGE)))
    pen.line(body.on_head(((-1.05, -0.35), (0, -0.6), (1.05, -0.35))), 0.04, BLACK, outline=False)
    pen.circle(*body.at(0, -0.66), 0.3 * body.head, (214, 226, 238))
    _cross(pen, 0.5 + 0.65 * body.width, body.down(0.32), 0.04)


def soldier(pen: Pen, look: Look) -> None:
    """Draw a soldier with a domed helmet, a camouflage uniform and high boots."""
    body = _body(look, 0.275, 0.185, 0.165)
    khaki = look.tint(look.pick(KHAKIS))
    dark = shade(khaki, 0.55)
    _side_hair(pen, look, body, look.hair())
    _figure(pen, look, body, Clothes(khaki, khaki, BLACK, khaki, hem=0.56, flare=1.05))
    for side in (-1, 1):
        x = 0.5 + side * 0.55 * body.width
        pen.rect(x - 0.07, 0.87, x + 0.07, 0.96, BLACK, outline=False)
    spots = ((-0.55, 0.2), (0.4, 0.14), (0.05, 0.36), (0.6, 0.42), (-0.6, 0.68), (0.5, 0.62))
    _spots(pen, [(0.5 + u * body.width, body.down(share)) for u, share in spots], 0.035, dark)
    _face(pen, look, body, level=0.2)
    pen.stroke(body.on_head(((-0.95, -0.2), (-0.6, 0.75), (0, 0.97), (0.6, 0.75), (0.95, -0.2))), width=1.5)
    pen.polygon(_dome(body, 1.3, -0.12), khaki)
    pen.line(body.on_head(((-1.35, -0.15), (1.35, -0.15))), 0.05, dark)
    spread = look.vary(0.0, 0.15)
    _spots(pen, body.on_head(((-0.65, -0.6), (0.1 + spread, -1.0), (0.75, -0.55))), 0.042, dark)


def pirate(pen: Pen, look: Look) -> None:
    """Draw a pirate with a black hat with a skull, an eye patch and a striped shirt."""
    body = _body(look, 0.29, 0.185, 0.16)
    hair, stripe = look.hair(), look.tint(look.pick((RED, (50, 70, 140), BLACK)))
    if look.chance(0.5):
        _long_hair(pen, body, hair, look.vary(1.0, 0.2), 1.25)
    trousers = look.tint(look.pick(((70, 56, 60), (120, 60, 60), (60, 70, 100))))
    _figure(pen, look, body, Clothes(WHITE, trousers, look.pick(LEATHER), WHITE))
    for share in (0.14, 0.29, 0.44):
        w = 0.8 * body.width
        pen.line([(0.5 - w, body.down(share)), (0.5 + w, body.down(share))], 0.035, stripe, outline=False)
    bearded = look.chance(0.75)
    if bearded:
        _beard(pen, body, hair, look.vary(1.25, 0.15))
    _face(pen, look, body, eyes=(-1,), mouth=WHITE if bearded else INK, level=0.15)
    pen.stroke(body.on_head(((-0.95, -0.35), (0.4, 0.12), (1.0, 0.0))), BLACK, 1.6)
    pen.circle(*body.at(0.4, 0.12), 0.28 * body.head, BLACK)
    look.pick((_tricorn, _tricorn, _bandana))(pen, look, body)


def _tricorn(pen: Pen, look: Look, body: Body) -> None:
    peak = look.vary(-1.45, 0.1)
    crown = ((-1.6, -0.75), (-1.1, -0.95), (-0.6, -1.3), (0, peak), (0.6, -1.3), (1.1, -0.95), (1.6, -0.75))
    pen.polygon(body.on_head((*crown, (1.2, -0.3), (0, -0.2), (-1.2, -0.3))), BLACK)
    pen.stroke(body.on_head(((-1.5, -0.7), (-1.15, -0.4), (0, -0.3), (1.15, -0.4), (1.5, -0.7))), GOLD, 1.6)
    _skull(pen, body, -0.85)


def _bandana(pen: Pen, look: Look, body: Body) -> None:
    colour = look.tint(look.pick((BLACK, (150, 30, 40))))
    pen.polygon(body.on_head(((-0.9, -0.3), (-1.6, -0.45), (-1.3, -0.1), (-1.55, 0.3), (-0.9, -0.1))), colour)
    pen.polygon(_dome(body, 1.12, -0.15), colour)
    _skull(pen, body, -0.7)


def _skull(pen: Pen, body: Body, level: float) -> None:
    x, y = body.at(0, level)
    pen.ellipse(x, y, 0.07, 0.06, WHITE, outline=False)
    pen.rect(x - 0.035, y + 0.03, x + 0.035, y + 0.085, WHITE, outline=False)
    for side in (-0.028, 0.028):
        pen.dot(x + side, y + 0.005, 0.018)


def police_officer(pen: Pen, look: Look) -> None:
    """Draw a police officer in a dark-blue uniform with a belt and a peaked cap with a golden badge."""
    body = _body(look, 0.285, 0.185, 0.165)
    navy, hair = look.tint(look.pick(NAVIES), 8), look.hair()
    _side_hair(pen, look, body, hair)
    _figure(pen, look, body, Clothes(navy, shade(navy, 0.8), BLACK, navy, hem=0.58, flare=1.05))
    pen.rect(0.5 - body.width, body.down(0.44), 0.5 + body.width, body.down(0.54), BLACK)
    pen.rect(0.465, body.down(0.44), 0.535, body.down(0.54), GOLD, outline=False)
    pen.polygon(
        [(0.5, body.down(0.2)), (0.46, body.neck), (0.54, body.neck)], look.pick((WHITE, (150, 190, 230)))
    )
    pen.circle(0.5 + 0.55 * body.width, body.down(0.24), 0.038, GOLD, outline=False)
    _face(pen, look, body, level=0.2)
    _peaked_cap(pen, body, navy, look.vary(1.35, 0.06))


def _peaked_cap(pen: Pen, body: Body, colour: Colour, width: float) -> None:
    crown = (
        (-0.95, -0.5),
        (-width, -1.0),
        (-0.6, -1.3),
        (0, -1.42),
        (0.6, -1.3),
        (width, -1.0),
        (0.95, -0.5),
    )
    pen.polygon(body.on_head(crown), colour)
    pen.polygon(body.on_head(((-0.98, -0.62), (0.98, -0.62), (1.0, -0.3), (-1.0, -0.3))), (120, 160, 220))
    visor = ((-1.0, -0.32), (1.0, -0.32), (0.8, -0.1), (0, 0.0), (-0.8, -0.1))
    pen.polygon(body.on_head(visor), BLACK)
    pen.circle(*body.at(0, -0.85), 0.28 * body.head, GOLD)


DRAWINGS: dict[str, Drawing] = {
    "child": child,
    "woman": woman,
    "man": man,
    "chef": chef,
    "doctor": doctor,
    "soldier": soldier,
    "pirate": pirate,
    "police officer": police_officer,
}
