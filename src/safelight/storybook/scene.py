"""Scenes: plans drawn as images, with exact ground truth."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageDraw

from safelight.storybook.captions import captions
from safelight.storybook.drawings import DRAWINGS
from safelight.storybook.drawings.places import PLACE_DRAWINGS
from safelight.storybook.look import Look
from safelight.storybook.pen import Frame, Pen
from safelight.storybook.plan import Plan, base_of, sample_plan
from safelight.storybook.style import RENDER, backdrop
from safelight.storybook.truth import Relation, RelationName, harms

SIZE_PX = 64
_SCALE = 4
_CANVAS = SIZE_PX * _SCALE

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Scene:
    """One image of the world with its ground truth.

    ``image`` is RGB, 64 by 64 pixels. ``objects`` are labels in the order of the plan, one for each object;
    ``boxes`` are (left, top, right, bottom) as shares of the image, one for each object. The first caption
    names every object; the others describe the scene as users would.
    """

    image: Image.Image
    objects: tuple[str, ...]
    boxes: tuple[Box, ...]
    relations: tuple[Relation, ...]
    place: str
    style: str
    plan: Plan
    seed: str

    @cached_property
    def captions(self) -> tuple[str, ...]:
        return captions(self.plan, random.Random(f"{self.seed} captions"))

    @cached_property
    def harms(self) -> tuple[str, ...]:
        """The categories of harm, by :func:`safelight.storybook.truth.harms`."""
        return harms(self.objects, self.relations)


class Storybook:
    """An unlimited source of scenes; a seed and an index always give the same scene."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def scene(self, index: int) -> Scene:
        seed = f"{self.seed}/{index}"
        return draw_scene(sample_plan(random.Random(seed)), seed)

    def scenes(self, count: int, start: int = 0) -> Iterator[Scene]:
        for index in range(start, start + count):
            yield self.scene(index)


def draw_scene(plan: Plan, seed: str) -> Scene:
    """Draw ``plan``; ``seed`` determines colours, sizes, poses and positions of the objects."""
    rng = random.Random(f"{seed} drawing")
    canvas = backdrop(_place(plan.place, rng), plan.style)
    boxes = _Stage(ImageDraw.Draw(canvas), plan, rng).perform()
    image = RENDER[plan.style](canvas.reduce(_SCALE), np.random.default_rng(rng.getrandbits(32)))
    return Scene(image, plan.objects, boxes, plan.relations, plan.place, plan.style, plan, seed)


def _place(name: str, rng: random.Random) -> Image.Image:
    canvas = Image.new("RGB", (_CANVAS, _CANVAS))
    frame = Frame(0, 0, _CANVAS, mirrored=rng.random() < 0.5)
    PLACE_DRAWINGS[name](Pen(ImageDraw.Draw(canvas), frame), Look(rng))
    return canvas


class _Stage:
    """Draws the objects of one plan on the canvas, back to front."""

    def __init__(self, draw: ImageDraw.ImageDraw, plan: Plan, rng: random.Random) -> None:
        self.draw = draw
        self.plan = plan
        self.rng = rng
        self.holders = {r.subject for r in plan.relations if r.name == "holding"}
        self.pens: dict[int, Pen] = {}

    def perform(self) -> tuple[Box, ...]:
        groups = self.plan.groups
        self.rng.shuffle(groups)
        for column, (base, relations) in enumerate(groups):
            self._base(base, {r.name for r in relations if base_of(r) == base}, column, len(groups))
            for relation in relations:
                self._attach(relation)
        return tuple(_box(self.pens[i]) for i in range(len(self.plan.objects)))

    def _base(self, index: int, bears: Collection[RelationName], column: int, columns: int) -> None:
        """Draw the base object of a group in the group's own column of the image."""
        vary = self.rng.uniform
        alone = columns == 1
        size = vary(40, 54) if alone else vary(29, 37) if columns == 2 else vary(22, 27)
        share, bottom, mirrored = 0.5, vary(54, 62), self.rng.random() < 0.5
        if "holding" in bears:
            size = vary(44, 52) if alone else vary(34, 40)
            mirrored = mirrored if alone else column > 0
            lean = 0.14 if alone else 0.1
            share = 0.5 + lean if mirrored else 0.5 - lean
        elif bears:
            size = vary(36, 42) if alone else vary(30, 34)
            bottom = vary(58, 62) if "on" in bears else vary(47, 53)
        middle = SIZE_PX * (column + share) / columns + vary(-3, 3)
        self._draw(index, middle, bottom, size, mirrored)

    def _attach(self, relation: Relation) -> None:
        {"holding": self._hold, "on": self._stand_on, "in front of": self._in_front}[relation.name](relation)

    def _hold(self, relation: Relation) -> None:
        holder = self.pens[relation.subject]
        hand_x, hand_y = holder.points["hand"]
        size = holder.frame.size * self.rng.uniform(0.46, 0.56)
        mirrored = holder.frame.mirrored
        frame = Frame(0, 0, size, self.rng.uniform(-0.15, 0.3) * (-1 if mirrored else 1), mirrored)
        # Draw once on a scratch image to find the grip, then again with the grip in the hand.
        trial = Pen(ImageDraw.Draw(Image.new("RGB", (1, 1))), frame)
        state = self.rng.getstate()
        DRAWINGS[self.plan.objects[relation.target]](trial, Look(self.rng))
        self.rng.setstate(state)
        grip_x, grip_y = trial.points["grip"]
        in_hand = Frame(hand_x - grip_x, hand_y - grip_y, size, frame.angle, mirrored)
        self._put(relation.target, in_hand)

    def _stand_on(self, relation: Relation) -> None:
        left, top, right, bottom = self.pens[relation.target].extent
        size = self.rng.uniform(22, 27)
        middle = (left + right) / 2 / _SCALE + self.rng.uniform(-3, 3)
        seat = top + 0.22 * (bottom - top)
        self._draw(relation.subject, middle, max(seat / _SCALE, size + 1), size)

    def _in_front(self, relation: Relation) -> None:
        left, _, right, _ = self.pens[relation.target].extent
        side = self.rng.choice((-1, 1))
        middle = ((left + right) / 2 + side * 0.36 * (right - left)) / _SCALE
        self._draw(relation.subject, middle, self.rng.uniform(60, 63), self.rng.uniform(24, 29))

    def _draw(
        self,
        index: int,
        middle: float,
        bottom: float,
        size: float,
        mirrored: bool | None = None,
    ) -> None:
        """Draw an object that stands at (middle, bottom), in image pixels, mostly inside the image."""
        mirrored = self.rng.random() < 0.5 if mirrored is None else mirrored
        middle = min(max(middle, 0.4 * size), SIZE_PX - 0.4 * size)
        side = size * _SCALE
        angle = self.rng.gauss(0, 0.05)
        frame = Frame(middle * _SCALE - side / 2, bottom * _SCALE - side, side, angle, mirrored)
        self._put(index, frame)

    def _put(self, index: int, frame: Frame) -> None:
        pen = self.pens[index] = Pen(self.draw, frame)
        DRAWINGS[self.plan.objects[index]](pen, Look(self.rng, index in self.holders))


def _box(pen: Pen) -> Box:
    left, top, right, bottom = (min(1.0, max(0.0, edge / _CANVAS)) for edge in pen.extent)
    return left, top, right, bottom
