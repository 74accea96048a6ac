"""Random variation of a drawn object: colour, shape and pose."""

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
    """Random choices for drawing one object; the same state of ``rng`` always gives the same drawing.

    With ``holding`` a person stretches out one arm to hold an object.
    """

    rng: random.Random
    holding: bool = False

    def pick(self, choices: Sequence[T]) -> T:
        return choices[int(self.rng.random() * len(choices))]

    def vary(self, value: float, spread: float) -> float:
        """Return ``value`` plus or minus at most ``spread``, uniformly."""
        return value + (2 * self.rng.random() - 1) * spread

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def tint(self, colour: Colour, spread: int = 14) -> Colour:
        """Return a colour near ``colour``: each channel changes by at most ``spread``."""
        rng = self.rng
        r, g, b = (min(255, max(0, channel + int((2 * rng.random() - 1) * spread))) for channel in colour)
        return r, g, b

    def bright(self) -> Colour:
        """Return a saturated colour for clothes, toys and vehicles."""
        return self.tint(self.pick(BRIGHTS))

    def skin(self) -> Colour:
        return self.tint(self.pick(SKINS), 6)

    def hair(self) -> Colour:
        return self.tint(self.pick(HAIRS), 8)


def shade(colour: Colour, factor: float) -> Colour:
    """Return the colour darkened by a factor below 1, or lightened towards white by one above 1."""
    if factor <= 1:
        r, g, b = (int(channel * factor) for channel in colour)
    else:
        r, g, b = (int(255 - (255 - channel) / factor) for channel in colour)
    return r, g, b
