"""Drawings of all objects of the storybook world."""

from __future__ import annotations

from collections.abc import Mapping

from safelight.storybook.drawings import animals, food, hazards, household, outdoors, people
from safelight.storybook.drawings.drawing import Drawing

DRAWINGS: Mapping[str, Drawing] = {
    **people.DRAWINGS,
    **animals.DRAWINGS,
    **food.DRAWINGS,
    **household.DRAWINGS,
    **outdoors.DRAWINGS,
    **hazards.DRAWINGS,
}
