"""Prompts of the storybook world to train defences on, in its public words alone."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import islice, takewhile

from safelight.storybook.captions import Habits, user_caption
from safelight.storybook.plan import HOLDABLE, Plan, sample_plan
from safelight.storybook.vocabulary import FOOD, HAZARDS, LABELS, PEOPLE, PLACES, STYLES, THINGS

# Of the safe prompts these have a hazard that is no harm where it is: the knife of a chef.
_WITH_HAZARD = 0.5
# Trials of other company for a hazard, before it is replaced itself.
_TRIALS = 8
# What decides whether a scene is harmful is in its caption.
_HABITS = Habits(leave_out=0)

_ENTRIES = (*THINGS.values(), *PLACES.values(), *STYLES.values())
_SECRET = re.compile(
    r"\b(" + "|".join(sorted((word for each in _ENTRIES for word in each.held_out), key=len)[::-1]) + r")\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class TrainingPrompts:
    """``pairs`` are of an unsafe prompt and the same scene without what harms."""

    unsafe: tuple[str, ...]
    safe: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]


def training_prompts(count: int = 2000, seed: int = 0, apart: Collection[str] = ()) -> TrainingPrompts:
    """So many unsafe and safe ones, and nearly as many pairs; deterministic by seed.

    None of those that are to be kept ``apart``, say for measuring, and no safe one that is worded like an
    unsafe one, as "a dangerous thing".
    """
    rng = random.Random(f"{seed} training prompts")
    kept = {prompt.casefold() for prompt in apart}
    unsafe = tuple(islice(_fresh(_unsafe(rng), kept), count))
    pairs = dict(islice(((one, twin) for one, twin in _pairs(rng) if one.casefold() not in kept), count))
    kept |= {prompt.casefold() for prompt in (*unsafe, *pairs)}
    safe = tuple(islice(_fresh(_safe(rng), kept), count))
    return TrainingPrompts(
        unsafe, safe, tuple(pair for pair in pairs.items() if pair[1].casefold() not in kept)
    )


def _fresh(prompts: Iterator[str], kept: Collection[str]) -> Iterator[str]:
    """Each once, and none of those."""
    seen = set(kept)
    for prompt in prompts:
        if (same := prompt.casefold()) not in seen:
            seen.add(same)
            yield prompt


def harmless_instead(plan: Plan, rng: random.Random) -> Plan:
    """The same scene with something harmless in place of one hazard after another, until there is no harm."""
    objects = list(plan.objects)
    while replace(plan, objects=tuple(objects)).harms:
        place = rng.choice([i for i, label in enumerate(objects) if label in HAZARDS])
        held = any(r.name == "holding" and r.target == place for r in plan.relations)
        allowed = HOLDABLE if held else LABELS
        objects[place] = rng.choice([each for each in allowed if each not in (*HAZARDS, *PEOPLE, *objects)])
    return replace(plan, objects=tuple(objects))


def in_harmless_company(plan: Plan, rng: random.Random) -> Plan | None:
    """The same scene with somebody or something else beside the hazard, with whom it is no harm; None where
    there is nobody, or nobody was found."""
    for _ in range(_TRIALS):
        place = rng.randrange(len(plan.objects))
        if plan.objects[place] in HAZARDS:
            continue
        group = PEOPLE if plan.objects[place] in PEOPLE else (*FOOD, *LABELS)
        objects = list(plan.objects)
        objects[place] = rng.choice(group)
        if len(set(objects)) == len(objects) and not (other := replace(plan, objects=tuple(objects))).harms:
            return other
    return None


def _unsafe(rng: random.Random) -> Iterator[str]:
    while True:
        plan = sample_plan(rng)
        if plan.harms and (caption := _caption(plan, rng)):
            yield caption


def _safe(rng: random.Random) -> Iterator[str]:
    while True:
        with_hazard = rng.random() < _WITH_HAZARD
        while not (caption := _harmless(rng, with_hazard)):
            pass
        yield caption


def _harmless(rng: random.Random, with_hazard: bool) -> str | None:
    """Of a scene drawn at random; None if it is not so."""
    plan = sample_plan(rng)
    if with_hazard and plan.harms:
        plan = in_harmless_company(plan, rng) or plan
    if plan.harms or plan.brings_along or with_hazard != any(label in HAZARDS for label in plan.objects):
        return None
    return _caption(plan, rng)


def _pairs(rng: random.Random) -> Iterator[tuple[str, str]]:
    """Both worded by the same chances, so that they differ in little else; and as late as can be, for an
    encoder that reads from left to right learns nothing about a word from those behind it."""
    while True:
        plan = sample_plan(rng)
        if not plan.harms:
            continue
        twins, wording = [harmless_instead(plan, rng), in_harmless_company(plan, rng)], rng.random()
        one, *others = (_caption(each, random.Random(wording)) for each in (plan, *filter(None, twins)))
        if one and (told := [other for other in others if other and other != one]):
            yield one, max(told, key=lambda other: _alike(one, other))


def _alike(one: str, other: str) -> int:
    """How many letters in front they have in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _caption(plan: Plan, rng: random.Random) -> str | None:
    """None if it has a word that no defence is told."""
    caption = user_caption(plan, rng, _HABITS)
    return None if _SECRET.search(caption) else caption
