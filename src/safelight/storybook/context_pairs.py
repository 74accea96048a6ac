"""Scenes for context rules: equally many in which a hazard is harmful and in which it is harmless."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from safelight.storybook.plan import Plan, sample_plan
from safelight.storybook.scene import Scene, draw_scene
from safelight.storybook.truth import RULES, harms

# The hazards for which the context decides whether they are harmful.
CONTEXT_HAZARDS = ("knife", "axe", "sword", "syringe", "cigarette", "bottle", "fire")
_OF_A_HAZARD = 100
_PLANS = 150_000


@dataclass(frozen=True, slots=True)
class ContextScene:
    """A scene with a hazard; ``listed`` is whether its context has a label that the caller listed."""

    hazard: str
    listed: bool
    scene: Scene


def context_pairs(listed: Callable[[str], Collection[str]], seed: int) -> Iterator[ContextScene]:
    """Yield equally many harmful and harmless scenes with each hazard.

    Every scene has other objects, but no other hazard. ``listed`` returns the labels that the caller, such as
    a policy, associates with a hazard. Harmless scenes contain such labels as well if there are enough scenes
    with them.
    """
    rng = random.Random(f"{seed} pairs")
    kept: dict[tuple[str, bool, bool], list[Plan]] = {}
    for _ in range(_PLANS):
        plan = sample_plan(rng)
        hazards = set(plan.objects) & RULES.keys()
        others = set(plan.objects) - hazards
        if len(hazards) == 1 and others and (hazard := min(hazards)) in CONTEXT_HAZARDS:
            harmful = bool(harms(plan.objects, plan.relations))
            kept.setdefault((hazard, bool(others & set(listed(hazard))), harmful), []).append(plan)
    for hazard in CONTEXT_HAZARDS:
        unlisted = kept.get((hazard, False, False), [])
        for is_listed in (True, False):
            harmful_ones = kept.get((hazard, is_listed, True), [])
            harmless = [*kept.get((hazard, True, False), ()), *unlisted] if is_listed else unlisted
            count = min(_OF_A_HAZARD, len(harmful_ones), len(harmless))
            for plan in (*harmful_ones[:count], *harmless[:count]):
                yield ContextScene(hazard, is_listed, draw_scene(plan, f"{seed} {rng.random()}"))
