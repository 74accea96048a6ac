"""Captions: a grammar that describes the scene of a plan in varied language, as users write."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from safelight.storybook.plan import Plan, attachment
from safelight.storybook.truth import Relation
from safelight.storybook.vocabulary import (
    HYPERNYMS,
    PEOPLE,
    PLACES,
    STYLES,
    THINGS,
    VIOLENCE_PHRASES,
    WEAPONS,
    countable,
    plural,
    with_article,
)  # fmt: skip

CAPTIONS_PER_SCENE = 5

_HOLDING = ("holding", "with", "carrying", "who holds", "and", "has", "showing", "with", "holds")
_NEXT_TO = ("next to", "beside", "near", "and", "and", "with", "by", "close to", "next to")
_IN_FRONT_OF = ("in front of", "in front of", "before")
_ON = ("on", "on top of", "sitting on", "standing on", "on")
_RELATION_WORDS = {"holding": _HOLDING, "next to": _NEXT_TO, "in front of": _IN_FRONT_OF, "on": _ON}

_OPENERS = (
    "a picture of", "an image of", "a photo of", "picture of", "please draw", "draw", "draw me", "show me",
    "i want", "there is", "here is", "make", "generate", "a scene with", "look,", "we see", "imagine",
    "an illustration of",
)  # fmt: skip
_CLOSERS = (
    "please", "highly detailed", "colorful", "4k", "high quality", "nice", "beautiful",
    "for a children's book", "best quality", "very cute", "simple", "trending", "clean lines", "today",
)  # fmt: skip
_ADJECTIVES = (
    "cute", "small", "big", "beautiful", "happy", "old", "young", "little", "funny", "nice", "large",
    "simple", "lovely", "strange", "brave", "new", "pretty",
)  # fmt: skip
_SETTING_WORDS = {
    "crime scene": (
        "a crime scene",
        "the crime scene",
        "crime scene",
        "scene of a crime",
        "a murder investigation",
    ),
    "party": ("a party", "the party", "party", "a celebration", "a birthday party"),
}
_PREPOSITIONS = {"park": "in", "kitchen": "in", "street": "on", "beach": "at", "room": "in", "night": "at"}
_COUNTS = {2: ("two", "2", "a pair of", "a couple of"), 3: ("three", "3", "a group of", "several")}


@dataclass(frozen=True, slots=True)
class Habits:
    """Rates of a caption writer's habits; the defaults are those of the training captions."""

    hypernyms: float = 0.05
    leave_out: float = 0.08
    violence: float = 0.06
    place: float = 0.65
    cartoon: float = 0.25
    opener: float = 0.25
    closer: float = 0.12
    adjective: float = 0.12
    tags: float = 0.12
    misspelling: float = 0.03
    letters: float = 0.2


def captions(plan: Plan, rng: random.Random, count: int = CAPTIONS_PER_SCENE) -> tuple[str, ...]:
    """Return a full caption that names every object, and ``count - 1`` captions as users write them.

    User captions never mention associated objects.
    """
    return full_caption(plan), *(user_caption(plan, rng) for _ in range(count - 1))


def full_caption(plan: Plan) -> str:
    """Return a caption with the labels of all objects, all relations, the place and the style."""
    indices = range(len(plan.objects))
    parts = [_clause(plan, base, relations, _Plain(plan)) for base, relations in _shown(plan, indices)]
    setting = f"{_SETTING_WORDS[plan.setting][0]} with " if plan.setting else ""
    return f"{setting}{' next to '.join(parts)} {_place_phrase(plan.place, plan.place)}, {plan.style}"


def user_caption(plan: Plan, rng: random.Random, habits: Habits | None = None) -> str:
    """Return a caption as a user with these habits writes it."""
    habits = habits or Habits()
    subject = _violence(plan, rng, habits) or _subject(plan, rng, habits)
    text = _compose(subject, plan, rng, habits)
    return _letters(_misspell(text, rng, habits.misspelling), rng, habits.letters)


def _subject(plan: Plan, rng: random.Random, habits: Habits) -> str:
    kept = _kept(plan, rng, habits)
    if rng.random() < habits.tags:
        words = [_noun(plan.objects[i], rng, habits) for i in sorted(set(kept), key=lambda _: rng.random())]
        return rng.choice((", ", " ")).join(([plan.setting] if plan.setting else []) + words)
    voice = _Voice(plan, rng, habits)
    groups = _shown(plan, kept)
    rng.shuffle(groups)
    clauses = _counted(plan, rng, habits) or [_clause(plan, b, relations, voice) for b, relations in groups]
    text = clauses[0] if clauses else ""
    for clause in clauses[1:]:
        text += f"{rng.choice((' next to ', ' and ', ' beside ', ', ', ' and ', ' with '))}{clause}"
    if plan.setting:
        setting = rng.choice(_SETTING_WORDS[plan.setting])
        text = rng.choice((f"{text} at {setting}", f"{setting} with {text}", setting, f"{setting}, {text}"))
    return text


def _kept(plan: Plan, rng: random.Random, habits: Habits) -> list[int]:
    """Return the objects that a user names: no associated ones, and sometimes without one harmless object."""
    kept = [i for i in range(len(plan.objects)) if i not in plan.unnamed]
    optional = [i for i in kept if THINGS[plan.objects[i]].kind != "hazard"]
    if len(kept) > 1 and len(set(plan.objects)) > 1 and optional and rng.random() < habits.leave_out:
        kept.remove(rng.choice(optional))
    return kept


def _shown(plan: Plan, kept: Collection[int]) -> list[tuple[int, list[Relation]]]:
    """Return the groups of the plan, reduced to the kept objects."""
    groups: list[tuple[int, list[Relation]]] = []
    for base, relations in plan.groups:
        members = [r for r in relations if attachment(r) in kept]
        if base in kept:
            groups.append((base, members))
        else:
            groups.extend((attachment(r), []) for r in members)
    return groups


class _Plain:
    """Names objects and relations by their labels."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def thing(self, index: int) -> str:
        return with_article(self.plan.objects[index])

    def relation(self, relation: Relation) -> str:
        return relation.name


class _Voice(_Plain):
    """Names objects and relations as users do, with synonyms and adjectives."""

    def __init__(self, plan: Plan, rng: random.Random, habits: Habits) -> None:
        super().__init__(plan)
        self.rng = rng
        self.habits = habits

    def thing(self, index: int) -> str:
        noun = _noun(self.plan.objects[index], self.rng, self.habits)
        if self.rng.random() < self.habits.adjective:
            noun = f"{self.rng.choice(_ADJECTIVES)} {noun}"
        article = self.rng.random()
        return noun if article < 0.12 else f"the {noun}" if article < 0.2 else with_article(noun)

    def relation(self, relation: Relation) -> str:
        return self.rng.choice(_RELATION_WORDS[relation.name])


def _clause(plan: Plan, base: int, relations: Sequence[Relation], voice: _Plain) -> str:
    if not relations:
        return voice.thing(base)
    relation = relations[0]
    if relation.name == "next to":
        return voice.thing(base)
    first, second = voice.thing(relation.subject), voice.thing(relation.target)
    text = f"{first} {voice.relation(relation)} {second}"
    for further in relations[1:]:
        text += f" and {voice.thing(attachment(further))}"
    return text


def _noun(label: str, rng: random.Random, habits: Habits) -> str:
    if rng.random() < habits.hypernyms and (
        classes := [h for h, members in HYPERNYMS.items() if label in members]
    ):
        return rng.choice(classes)
    return rng.choice(THINGS[label].words)


def _counted(plan: Plan, rng: random.Random, habits: Habits) -> list[str]:
    """Return a counted noun such as ["two dogs"] for several objects of one kind; otherwise nothing."""
    count = len(plan.objects)
    if count < 2 or len(set(plan.objects)) > 1:
        return []
    noun = _noun(plan.objects[0], rng, habits)
    if not countable(noun):
        return [f"lots of {noun}"]
    number = f"{rng.choice(_COUNTS[count])} " if rng.random() < 0.85 else ""
    return [f"{number}{plural(noun)}"]


def _violence(plan: Plan, rng: random.Random, habits: Habits) -> str:
    """Return a phrase of violence that replaces the objects, or "", at the rate of the habits."""
    named = [label for i, label in enumerate(plan.objects) if i not in plan.unnamed]
    people, weapons = set(named) & set(PEOPLE), set(named) & {*WEAPONS, "blood"}
    if people and weapons and rng.random() < 3 * habits.violence:
        return rng.choice(VIOLENCE_PHRASES)
    return ""


def _place_phrase(place: str, word: str) -> str:
    if word in ("indoors", "downtown"):
        return word
    if place == "night" and word.endswith("night"):
        return f"at {word}" if word == "night" else f"in the {word}"
    if place == "night":
        return {"night sky": "under the night sky", "moonlight": "in the moonlight"}.get(word, f"at {word}")
    return f"{_PREPOSITIONS[place]} {'a' if place == 'room' else 'the'} {word}"


def _compose(subject: str, plan: Plan, rng: random.Random, habits: Habits) -> str:
    place = rng.choice(PLACES[plan.place].words) if rng.random() < habits.place else ""
    text = _with_place(subject, _place_phrase(plan.place, place) if place else "", rng)
    opener = rng.choice(_OPENERS) if rng.random() < habits.opener else ""
    if plan.style != "cartoon" or rng.random() < habits.cartoon:
        text, opener = _with_style(text, opener, rng.choice(STYLES[plan.style].words), rng)
    closer = f", {rng.choice(_CLOSERS)}" if rng.random() < habits.closer else ""
    return f"{opener} {text}{closer}".strip()


def _with_place(subject: str, place: str, rng: random.Random) -> str:
    if not place:
        return subject
    return rng.choice(
        (f"{subject} {place}", f"{subject} {place}", f"{place}, {subject}", f"{subject}, {place}")
    )


def _with_style(text: str, opener: str, style: str, rng: random.Random) -> tuple[str, str]:
    form = rng.random()
    if form < 0.35:
        return f"{with_article(style) if rng.random() < 0.7 else style} of {text}", ""
    if form < 0.75:
        return f"{text}, {style}", opener
    if form < 0.9:
        return f"{text} as a {style}", opener
    return f"{style}: {text}", ""


def misspelt(word: str, rng: random.Random) -> str:
    """Return ``word`` with one typing error: two letters swapped, or one dropped, doubled or replaced."""
    i = rng.randrange(1, len(word) - 1)
    slip = rng.randrange(4)
    if slip == 0:
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    if slip == 1:
        return word[:i] + word[i + 1 :]
    if slip == 2:
        return word[:i] + word[i] + word[i:]
    return word[:i] + rng.choice("abcdefghijklmnopqrstuvwxyz") + word[i + 1 :]


def _misspell(text: str, rng: random.Random, rate: float) -> str:
    def slip(match: re.Match[str]) -> str:
        word = match.group()
        return misspelt(word, rng) if rng.random() < rate else word

    return re.sub(r"[a-z]{3,}", slip, text)


def _letters(text: str, rng: random.Random, rate: float) -> str:
    """Vary capitals and final punctuation as users type them."""
    draw = rng.random() / max(rate, 1e-9)
    if draw < 0.1:
        text = text.upper()
    elif draw < 0.2:
        text = text.title()
    elif draw < 1:
        text = text[:1].upper() + text[1:]
    return text + rng.choice((".", ".", "!")) if rng.random() < rate else text
