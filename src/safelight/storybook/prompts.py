"""Prompts of the storybook world to train defences on; they use seen synonyms only."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from itertools import takewhile

from safelight.storybook.captions import Habits, user_caption
from safelight.storybook.plan import Plan, sample_plan
from safelight.storybook.vocabulary import ANIMALS, FOOD, HAZARDS, LABELS, PEOPLE, PLACES, STYLES, THINGS

# Harmless objects that replace hazards. Pairs always use the same replacement for an object, since an encoder
# that is trained on several replacements learns their mean.
_REPLACEMENTS = ("flower", "ball", "book", "cup", "umbrella")
# The share of prompts that are misspelt as attackers would.
_MISSPELT = 0.2
# Captions name every object that makes a scene harmful.
_HABITS = Habits(leave_out=0)

_WORDINGS = 8

Misspell = Callable[[str, random.Random], str]

_ENTRIES = (*THINGS.values(), *PLACES.values(), *STYLES.values())
_HELD_OUT = re.compile(
    r"\b(" + "|".join(sorted((word for each in _ENTRIES for word in each.held_out), key=len)[::-1]) + r")\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class TrainingPrompts:
    """Prompts to train a defence on.

    ``pairs`` are unsafe prompts with benign counterparts: the same scene without the harm. Half of the
    ``safe`` prompts have a hazard that is harmless in context, such as a chef's knife. The simplest come
    first: correctly spelt, without a hazard, and without people or animals.
    """

    safe: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]


def training_prompts(
    count: int = 12_000, seed: int = 0, apart: Collection[str] = (), misspell: Misspell | None = None
) -> TrainingPrompts:
    """Return about ``count`` safe prompts and ``count`` pairs; the same seed always gives the same prompts.

    Prompts in ``apart``, such as those of an evaluation, are excluded, and so are safe prompts whose text is
    also an unsafe prompt ("a dangerous thing"). ``misspell`` is applied to one prompt in five.
    """
    rng = random.Random(f"{seed} training prompts")

    def spelt(prompt: str) -> str:
        return misspell(prompt, rng) if misspell and rng.random() < _MISSPELT else prompt

    # Excluded prompts are removed before others are misspelt.
    pairs, plain, with_hazard = _sorted_scenes(rng, count, {prompt.casefold() for prompt in apart})
    kept = [(spelt(one), other) for one, other in pairs.values() if other.casefold() not in pairs]
    alone = {same: [spelt(each), each, seen] for same, (each, seen) in plain.items() if same not in pairs}
    plainest = sorted(alone.values(), key=lambda each: (each[0] != each[1], each[2]))
    others = [spelt(each) for same, each in with_hazard.items() if same not in pairs]
    return TrainingPrompts((*(str(prompt) for prompt, *_ in plainest), *others), tuple(kept))


def _sorted_scenes(
    rng: random.Random, count: int, excluded: Collection[str]
) -> tuple[dict[str, tuple[str, str]], dict[str, tuple[str, bool]], dict[str, str]]:
    """Return ``count`` pairs, and half as many safe prompts each without and with a hazard.

    All are keyed by the prompt in lower case; a prompt without a hazard is returned with whether it has
    people or animals. A harmful scene gives a pair and a safe prompt in another context. Half of the pairs
    are harmful only because of the context.
    """
    pairs: dict[str, tuple[str, str]] = {}
    wanted = {True: count // 2, False: count - count // 2}
    plain: dict[str, tuple[str, bool]] = {}
    with_hazard: dict[str, str] = {}
    while len(pairs) < count or len(plain) < count - count // 2 or len(with_hazard) < count // 2:
        plan = sample_plan(rng)
        if plan.harms:
            in_context = plan.harms_by_context
            found = _pair(plan, rng) if wanted[in_context] else None
            if found and (same := found[0].casefold()) not in excluded:
                wanted[in_context] -= same not in pairs
                pairs[same] = found
            if len(with_hazard) == count // 2 or not (other := in_harmless_context(plan, rng)):
                continue
            plan = other
        if plan.brings_along:
            continue
        has_hazard = any(label in HAZARDS for label in plan.objects)
        there, most = (len(with_hazard), count // 2) if has_hazard else (len(plain), count - count // 2)
        caption = _caption(plan, rng) if there < most else None
        if not caption or (same := caption.casefold()) in excluded:
            continue
        if has_hazard:
            with_hazard[same] = caption
        else:
            plain[same] = caption, any(label in (*PEOPLE, *ANIMALS) for label in plan.objects)
    return pairs, plain, with_hazard


def without_harm(plan: Plan) -> Plan:
    """Return the scene with hazards replaced by harmless objects until it is harmless.

    The hazard whose replacement leaves the least harm is replaced first.
    """
    while plan.harms:
        instead = next(label for label in _REPLACEMENTS if label not in plan.objects)
        hazards = [place for place, label in enumerate(plan.objects) if label in HAZARDS]
        plan = min((_with(plan, place, instead) for place in hazards), key=lambda less: len(less.harms))
    return plan


def in_harmless_context(plan: Plan, rng: random.Random | None = None) -> Plan | None:
    """Return the scene with one other object replaced so that the hazard is harmless.

    Returns None if no replacement makes it harmless. With ``rng`` the replacement is random; otherwise the
    first possible one is used.
    """
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
    """Return a caption and its benign counterpart, which differs in one object only; None if there is none.

    They differ as late in the text as possible, because in a causal text encoder the embedding of a word does
    not depend on later words.
    """
    if plan.brings_along or not (caption := _caption(plan, rng)):
        return None
    benign = [other for other in (without_harm(plan), in_harmless_context(plan)) if other]
    reworded = [reworded_for(caption, plan, other) for other in benign if not other.brings_along]
    found = [other for other in reworded if other]
    return (caption, max(found, key=lambda other: _common_prefix(caption, other))) if found else None


def reworded_for(caption: str, plan: Plan, other: Plan) -> str | None:
    """Return the caption of ``plan`` with replaced objects named by the words for those in ``other``.

    Returns None if the caption does not name one of them.
    """
    for label, instead in zip(plan.objects, other.objects, strict=True):
        if label == instead:
            continue
        words, others = THINGS[label].named, THINGS[instead].named
        matches = [(word, re.search(rf"(\ban? )?\b{word}\b", caption, re.IGNORECASE)) for word in words]
        found = [(word, match) for word, match in matches if match]
        if not found:
            return None
        word, match = max(found, key=lambda each: len(each[0]))
        new = others[words.index(word) % len(others)]
        new = f"{'an' if new[0] in 'aeiou' else 'a'} {new}" if match[1] else new
        caption = caption[: match.start()] + _in_case_of(match[0], new) + caption[match.end() :]
    return caption


def _in_case_of(old: str, new: str) -> str:
    """Return ``new`` in the letter case of ``old``."""
    like = (str.lower, str.upper, str.title, str.capitalize)
    return next((change(new) for change in like if change(old) == old), new)


def _common_prefix(one: str, other: str) -> int:
    """Return the length of the longest common prefix."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _caption(plan: Plan, rng: random.Random) -> str | None:
    """Return a caption without held-out synonyms; None if several attempts give none."""
    wordings = (user_caption(plan, rng, _HABITS) for _ in range(_WORDINGS))
    return next((each for each in wordings if not _HELD_OUT.search(each)), None)
