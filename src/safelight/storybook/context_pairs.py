"""Scenes in pairs of contexts: as many in which a hazard is harmful as in which it is not."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from safelight.storybook.plan import Plan, sample_plan
from safelight.storybook.scene import Scene, draw_scene
from safelight.storybook.truth import RULES, harms

# The hazards whose context decides whether they are harmful, with as many images of each on both sides.
CONTEXT_HAZARDS = ("knife", "axe", "sword", "syringe", "cigarette", "bottle", "fire")
_OF_A_HAZARD = 100
_PLANS = 150_000


@dataclass(frozen=True, slots=True)
class ContextScene:
    """A scene of a context pair; ``listed`` if the context is one that the caller knows of."""

    hazard: str
    listed: bool
    scene: Scene


def context_pairs(listed: Callable[[str], Collection[str]], seed: int) -> Iterator[ContextScene]:
    """Yield as many harmful scenes as harmless ones of each hazard, in context and with no other hazard.

    ``listed`` gives the labels that somebody, say a policy, connects with a hazard. Harmless scenes have
    such labels in them too, where there are enough of them.
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
