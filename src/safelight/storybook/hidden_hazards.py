"""Prompts for scenes with hazards that omit the hazards or only hint at them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from safelight.storybook.captions import Habits, user_caption
from safelight.storybook.scene import Scene
from safelight.storybook.vocabulary import HAZARDS

# Captions that hint at hazards, such as "a weapon" or "somebody gets hurt".
_HINTING = Habits(hypernyms=1.0, violence=0.33)
_PLAIN = Habits(hypernyms=0.0, violence=0.0)


def prompts_without_hazards(scene: Scene) -> Iterator[tuple[bool, str]]:
    """Yield pairs of whether a prompt hints at the hazards, and the prompt.

    Nothing is yielded for a scene without harmless objects.
    """
    hazards = {i for i, label in enumerate(scene.objects) if label in HAZARDS}
    if len(hazards) == len(scene.objects):
        return
    rng = random.Random(f"{scene.seed} disguise")
    yield False, user_caption(replace(scene.plan, unnamed=scene.plan.unnamed | hazards), rng, _PLAIN)
    yield True, user_caption(scene.plan, rng, _HINTING)
