"""What an artist decides before drawing one object: the chances of colour, shape and pose."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from safelight.storybook.pen import Colour

T = TypeVar("T")

SKINS: tuple[Colour, ...] = (
    (255, 224, 189), (241, 194, 155), (224, 172, 120), (198, 134, 85), (141, 92, 58), (96, 60, 40),
)  # fmt: skip
HAIRS: tuple[Colour, ...] = (
    (45, 35, 32), (94, 60, 36), (150, 96, 48), (222, 184, 88), (186, 82, 36), (150, 150, 150),
)  # fmt: skip
BRIGHTS: tuple[Colour, ...] = (
    (222, 60, 56), (240, 150, 40), (246, 206, 60), (90, 176, 80), (60, 150, 200),
    (70, 90, 190), (150, 90, 190), (232, 120, 170), (60, 176, 160),
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """One object's chances. The same ``rng`` state always gives the same drawing.

    ``holding`` asks a person for the pose with one arm stretched out to hold a thing.
    """

    rng: random.Random
    holding: bool = False

    def pick(self, choices: Sequence[T]) -> T:
        return choices[int(self.rng.random() * len(choices))]

    def vary(self, value: float, spread: float) -> float:
        """``value`` give or take ``spread``, uniformly."""
        return value + (2 * self.rng.random() - 1) * spread

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def tint(self, colour: Colour, spread: int = 14) -> Colour:
        """A shade near ``colour``: each channel moves by at most ``spread``."""
        rng = self.rng
        r, g, b = (min(255, max(0, channel + int((2 * rng.random() - 1) * spread))) for channel in colour)
        return r, g, b

    def bright(self) -> Colour:
        """A saturated colour for clothes, toys and vehicles."""
        return self.tint(self.pick(BRIGHTS))

    def skin(self) -> Colour:
        return self.tint(self.pick(SKINS), 6)

    def hair(self) -> Colour:
        return self.tint(self.pick(HAIRS), 8)


def shade(colour: Colour, factor: float) -> Colour:
    """Darker below 1, lighter towards white above 1."""
    if factor <= 1:
        r, g, b = (int(channel * factor) for channel in colour)
    else:
        r, g, b = (int(255 - (255 - channel) / factor) for channel in colour)
    return r, g, b
