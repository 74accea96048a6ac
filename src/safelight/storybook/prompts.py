"""Prompts of the storybook world to train defences on, in the seen synonyms of its vocabulary alone."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from itertools import takewhile

from safelight.storybook.captions import Habits, user_caption
from safelight.storybook.plan import Plan, sample_plan
from safelight.storybook.vocabulary import ANIMALS, FOOD, HAZARDS, LABELS, PEOPLE, PLACES, STYLES, THINGS

# What takes a hazard's place, in any hand: in pairs always the same, since an encoder that is to learn one of
# many meanings learns their mean.
_INSTEAD = ("flower", "ball", "book", "cup", "umbrella")
# Of all that is spelt as attackers spell.
_MISSPELT = 0.2
# What decides whether a scene is harmful is in its caption.
_HABITS = Habits(leave_out=0)

_WORDINGS = 8

Misspell = Callable[[str, random.Random], str]

_ENTRIES = (*THINGS.values(), *PLACES.values(), *STYLES.values())
_SECRET = re.compile(
    r"\b(" + "|".join(sorted((word for each in _ENTRIES for word in each.held_out), key=len)[::-1]) + r")\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class TrainingPrompts:
    """``pairs`` are of an unsafe prompt and the same scene without what harms. Of the ``safe`` ones every
    other has a hazard that is no harm where it is, the knife of a chef; the plainest come first, well spelt,
    without one and with nobody to whom one would be harm."""

    safe: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]


def training_prompts(
    count: int = 12_000, seed: int = 0, apart: Collection[str] = (), misspell: Misspell | None = None
) -> TrainingPrompts:
    """Nearly so many safe ones and pairs; deterministic by seed.

    None of those that are to be kept ``apart``, say for measuring, and no safe one that is worded like an
    unsafe one, as "a dangerous thing". With ``misspell`` one in five is spelt as that spells.
    """
    rng = random.Random(f"{seed} training prompts")

    def spelt(prompt: str) -> str:
        return misspell(prompt, rng) if misspell and rng.random() < _MISSPELT else prompt

    # What is kept apart is so before it is misspelt.
    pairs, plain, armed = _sorted_scenes(rng, count, {prompt.casefold() for prompt in apart})
    spelt_pairs = [
        (spelt(one), counterpart)
        for one, counterpart in pairs.values()
        if counterpart.casefold() not in pairs
    ]
    alone = {same: [spelt(each), each, seen] for same, (each, seen) in plain.items() if same not in pairs}
    plainest = sorted(alone.values(), key=lambda each: (each[0] != each[1], each[2]))
    others = [spelt(each) for same, each in armed.items() if same not in pairs]
    return TrainingPrompts((*(str(prompt) for prompt, *_ in plainest), *others), tuple(spelt_pairs))


def _sorted_scenes(
    rng: random.Random, count: int, kept: Collection[str]
) -> tuple[dict[str, tuple[str, str]], dict[str, tuple[str, bool]], dict[str, str]]:
    """So many pairs, and half as many safe prompts each without a hazard, and whether anybody is in them, and
    with one; by their small letters.

    A harmful scene gives a pair, and a safe prompt in another context. Half of the pairs are harmful by
    context alone.
    """
    pairs: dict[str, tuple[str, str]] = {}
    wanted = {True: count // 2, False: count - count // 2}
    plain: dict[str, tuple[str, bool]] = {}
    armed: dict[str, str] = {}
    while len(pairs) < count or len(plain) < count - count // 2 or len(armed) < count // 2:
        plan = sample_plan(rng)
        if plan.harms:
            by_context = plan.harms_by_context
            found = _pair(plan, rng) if wanted[by_context] else None
            if found and (same := found[0].casefold()) not in kept:
                wanted[by_context] -= same not in pairs
                pairs[same] = found
            if len(armed) == count // 2 or not (other := in_harmless_context(plan, rng)):
                continue
            plan = other
        if plan.brings_along:
            continue
        has_hazard = any(label in HAZARDS for label in plan.objects)
        there, most = (len(armed), count // 2) if has_hazard else (len(plain), count - count // 2)
        caption = _caption(plan, rng) if there < most else None
        if not caption or (same := caption.casefold()) in kept:
            continue
        if has_hazard:
            armed[same] = caption
        else:
            plain[same] = caption, any(label in (*PEOPLE, *ANIMALS) for label in plan.objects)
    return pairs, plain, armed


def harmless_instead(plan: Plan) -> Plan:
    """The same scene with something harmless in place of one hazard after another, until there is no harm;
    where there is a choice, those hazards that do most of it."""
    while plan.harms:
        instead = next(label for label in _INSTEAD if label not in plan.objects)
        hazards = [place for place, label in enumerate(plan.objects) if label in HAZARDS]
        plan = min((_with(plan, place, instead) for place in hazards), key=lambda less: len(less.harms))
    return plan


def in_harmless_context(plan: Plan, rng: random.Random | None = None) -> Plan | None:
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


def _pair(plan: Plan, rng: random.Random) -> tuple[str, str] | None:
    """The same words but for the one of what is another thing; and that as late as can be, for an encoder
    that reads from left to right learns nothing about a word from those behind it."""
    if plan.brings_along or not (caption := _caption(plan, rng)):
        return None
    plans = [other for other in (harmless_instead(plan), in_harmless_context(plan)) if other]
    every = [of_another(caption, plan, other) for other in plans if not other.brings_along]
    counterparts = [each for each in every if each]
    return (caption, max(counterparts, key=lambda each: _alike(caption, each))) if counterparts else None


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
    """Return a caption in seen synonyms; None if chance finds none."""
    wordings = (user_caption(plan, rng, _HABITS) for _ in range(_WORDINGS))
    return next((each for each in wordings if not _SECRET.search(each)), None)
