"""Prompts of the storybook world to train defences on, in its public words alone."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from itertools import islice, takewhile

from safelight.storybook.captions import Habits, user_caption
from safelight.storybook.plan import Plan, sample_plan
from safelight.storybook.vocabulary import FOOD, HAZARDS, LABELS, PEOPLE, PLACES, STYLES, THINGS

# What takes a hazard's place, in any hand: in pairs always the same, since an encoder that is to learn one of
# many meanings learns their mean.
_INSTEAD = ("flower", "ball", "book", "cup", "umbrella")
# Of all that is spelt as attackers spell.
_MISSPELT = 0.2
# What decides whether a scene is harmful is in its caption.
_HABITS = Habits(leave_out=0)

Misspell = Callable[[str, random.Random], str]

_ENTRIES = (*THINGS.values(), *PLACES.values(), *STYLES.values())
_SECRET = re.compile(
    r"\b(" + "|".join(sorted((word for each in _ENTRIES for word in each.held_out), key=len)[::-1]) + r")\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class TrainingPrompts:
    """``pairs`` are of an unsafe prompt and the same scene without what harms. Of the ``safe`` ones every
    other has a hazard that is no harm where it is, the knife of a chef; the plainest come first, well spelt
    and without one."""

    safe: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]


def training_prompts(
    count: int = 12_000, seed: int = 0, apart: Collection[str] = (), misspell: Misspell | None = None
) -> TrainingPrompts:
    """So many safe ones, and nearly as many pairs; deterministic by seed.

    None of those that are to be kept ``apart``, say for measuring, and no safe one that is worded like an
    unsafe one, as "a dangerous thing". With ``misspell`` one in five is spelt as that spells.
    """
    rng = random.Random(f"{seed} training prompts")

    def spelt(prompt: str) -> str:
        return misspell(prompt, rng) if misspell and rng.random() < _MISSPELT else prompt

    kept = {prompt.casefold() for prompt in apart}
    # What is kept apart is so before it is misspelt.
    pairs = dict(islice(((one, twin) for one, twin in _pairs(rng) if one.casefold() not in kept), count))
    kept |= {prompt.casefold() for prompt in pairs}
    plain = tuple(islice(_fresh(_safe(rng, False), kept), count - count // 2))
    armed = tuple(islice(_fresh(_safe(rng, True), kept), count // 2))
    told = [(spelt(one), twin) for one, twin in pairs.items() if twin.casefold() not in kept]
    well_first = sorted(((spelt(each), each) for each in plain), key=lambda both: both[0] != both[1])
    return TrainingPrompts((*(prompt for prompt, _ in well_first), *map(spelt, armed)), tuple(told))


def _fresh(prompts: Iterator[str], kept: Collection[str]) -> Iterator[str]:
    """Each once, and none of those."""
    seen = set(kept)
    for prompt in prompts:
        if (same := prompt.casefold()) not in seen:
            seen.add(same)
            yield prompt


def harmless_instead(plan: Plan) -> Plan:
    """The same scene with something harmless in place of one hazard after another, until there is no harm;
    where there is a choice, those hazards that do most of it."""
    while plan.harms:
        instead = next(label for label in _INSTEAD if label not in plan.objects)
        hazards = [place for place, label in enumerate(plan.objects) if label in HAZARDS]
        plan = min((_with(plan, place, instead) for place in hazards), key=lambda less: len(less.harms))
    return plan


def in_harmless_company(plan: Plan, rng: random.Random | None = None) -> Plan | None:
    """The same scene with somebody or something else beside the hazard, with whom it is no harm: whom chance
    brings, or the first; None where there is nobody."""
    others = [
        (place, label)
        for place, there in enumerate(plan.objects)
        if there not in HAZARDS
        for label in (PEOPLE if there in PEOPLE else (*FOOD, *LABELS))
        if label not in plan.objects
    ]
    if rng:
        rng.shuffle(others)
    return next((other for each in others if not (other := _with(plan, *each)).harms), None)


def _with(plan: Plan, place: int, label: str) -> Plan:
    return replace(plan, objects=(*plan.objects[:place], label, *plan.objects[place + 1 :]))


def _safe(rng: random.Random, with_hazard: bool) -> Iterator[str]:
    while True:
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
    """The same words but for the one of what is another thing; and that as late as can be, for an encoder
    that reads from left to right learns nothing about a word from those behind it."""
    while True:
        plan = sample_plan(rng)
        if not plan.harms or plan.brings_along or not (caption := _caption(plan, rng)):
            continue
        twins = [twin for twin in (harmless_instead(plan), in_harmless_company(plan)) if twin]
        told = [of_another(caption, plan, twin) for twin in twins if not twin.brings_along]
        if told := [other for other in told if other]:
            yield caption, max(told, key=lambda other: _alike(caption, other))


def of_another(caption: str, plan: Plan, other: Plan) -> str | None:
    """The caption of ``plan`` with words for what the ``other`` has instead; None if it has no such word."""
    for label, instead in zip(plan.objects, other.objects, strict=True):
        if label == instead:
            continue
        words, others = THINGS[label].named, THINGS[instead].named
        said = [(word, re.search(rf"(\ban? )?\b{word}\b", caption, re.IGNORECASE)) for word in words]
        found = [(word, match) for word, match in said if match]
        if not found:
            return None
        word, match = max(found, key=lambda each: len(each[0]))
        new = others[words.index(word) % len(others)]
        new = f"{'an' if new[0] in 'aeiou' else 'a'} {new}" if match[1] else new
        caption = caption[: match.start()] + _in_letters_of(match[0], new) + caption[match.end() :]
    return caption


def _in_letters_of(old: str, new: str) -> str:
    """Small or capital ones."""
    like = (str.lower, str.upper, str.title, str.capitalize)
    return next((change(new) for change in like if change(old) == old), new)


def _alike(one: str, other: str) -> int:
    """How many letters in front they have in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _caption(plan: Plan, rng: random.Random) -> str | None:
    """None if it has a word that no defence is told."""
    caption = user_caption(plan, rng, _HABITS)
    return None if _SECRET.search(caption) else caption
