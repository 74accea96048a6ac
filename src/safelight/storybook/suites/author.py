"""Generator of cases: samples scenes of the storybook, captions them and numbers the cases."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cache

from safelight.storybook.captions import Habits, user_caption
from safelight.storybook.plan import Plan
from safelight.storybook.truth import Relation, RelationName
from safelight.storybook.vocabulary import HAZARDS, HYPERNYMS, LABELS, PLACES, STYLES, THINGS
from safelight.types import Case

_VARIED = Habits(hypernyms=0, leave_out=0, violence=0, misspelling=0)
_PLAIN = replace(_VARIED, opener=0, closer=0, adjective=0, tags=0, letters=0)


def _attributes(plan: Plan, habits: Habits) -> dict[str, str]:
    """Return the style and the place of a scene if the prompt names them."""
    style = {"style": plan.style} if habits.cartoon else {}
    return {**style, "place": plan.place} if habits.place else style


class Author:
    """Generates the cases of one suite: samples scenes, captions them and numbers the cases."""

    def __init__(self, part: str, seed: int) -> None:
        self.part = part
        self.rng = random.Random(f"{seed} {part}")
        self.written = 0

    def scene(self, *objects: str, relation: RelationName | None = None) -> Plan:
        relations = (Relation(0, relation, 1),) if relation else ()
        return Plan(objects, relations, self.rng.choice(tuple(PLACES)), self.rng.choice(tuple(STYLES)))

    def manner(self, varied: bool | None = None) -> Habits:
        """Return caption habits: plain, or ``varied`` as users write; by default each in half of the cases.

        The style and the place are named in half of the cases each.
        """
        varied = self._flip() if varied is None else varied
        return replace(_VARIED if varied else _PLAIN, cartoon=self._flip(), place=self._flip())

    def _flip(self) -> bool:
        return self.rng.random() < 0.5

    def word(self, plan: Plan, habits: Habits, fits: Callable[[str], bool]) -> str:
        """Return a random caption of ``plan`` for which ``fits`` is true."""
        while not fits(caption := user_caption(_captioned(plan, habits), self.rng, habits)):
            pass
        return caption

    def case(
        self,
        prompt: str,
        plan: Plan,
        habits: Habits,
        *tags: str,
        expects: Collection[str] = (),
        any_of: Collection[str] = (),
    ) -> Case:
        self.written += 1
        return Case(
            id=f"{self.part}-{self.written:04d}",
            prompt=prompt,
            expects=frozenset(expects),
            any_of=frozenset(any_of),
            attributes=_attributes(plan, habits),
            tags=frozenset((self.part, *tags)),
        )

    def one(self, label: str, word: str) -> Case:
        """Return a case with one object that the prompt calls ``word``."""
        return self.single(self.scene(label), self.manner(), word)

    def with_another(self, label: str, word: str) -> Case:
        """Return a case as ``one`` does, in half of the cases with another object under any synonym."""
        if self._flip():
            return self.one(label, word)
        other = self.rng.choice([each for each in LABELS if each not in (label, *HAZARDS)])
        plan, habits = self.scene(label, other), self.manner()
        prompt = self.word(plan, habits, calls({label: [word], other: THINGS[other].words}))
        return self.case(prompt, plan, habits, expects=[label, other])

    def of(self, plan: Plan, expects: Collection[str]) -> Case:
        """Return a case for ``plan`` with a varied caption, which expects the labels ``expects``."""
        habits = self.manner(varied=True)
        prompt = self.word(plan, habits, lambda text: True)
        return self.case(prompt, plan, habits, expects=expects)

    def in_style(self, style: str, word: str) -> Case:
        label = self.rng.choice([each for each in LABELS if each not in HAZARDS])
        plan, habits = replace(self.scene(label), style=style), replace(self.manner(), cartoon=1)
        prompt = self.word(plan, habits, lambda text: says(text, word))
        return self.case(prompt, plan, habits, expects=[label])

    def single(self, plan: Plan, habits: Habits, word: str) -> Case:
        (label,) = plan.objects
        prompt = self.word(plan, habits, calls({label: [word]}))
        return self.case(prompt, plan, habits, f"label:{label}", expects=[label])


def _captioned(plan: Plan, habits: Habits) -> Plan:
    """Return the plan to caption; a caption without a style is written for the style "cartoon"."""
    return plan if habits.cartoon else replace(plan, style="cartoon")


def calls(words: Mapping[str, Collection[str]]) -> Callable[[str], bool]:
    """Return a predicate: whether a caption calls each label by one of its ``words``."""
    return lambda caption: all(word_for(label, caption) in allowed for label, allowed in words.items())


def word_for(label: str, caption: str) -> str:
    """Return the word by which ``caption`` calls ``label``, "" if it does not.

    It is the longest match: a caption with "kitchen knife" does not call it "knife".
    """
    lowered = caption.lower()
    return next((word for word in _longest_first(label) if _says(caption, lowered, word)), "")


@cache
def _longest_first(label: str) -> tuple[str, ...]:
    return tuple(sorted((*THINGS[label].words, *HYPERNYMS), key=len, reverse=True))


def says(caption: str, word: str) -> bool:
    return _says(caption, caption.lower(), word)


def _says(caption: str, lowered: str, word: str) -> bool:
    if word.lower() not in lowered:  # excludes most words ten times as fast as the pattern
        return False
    return re.search(rf"\b{word}\b", caption, re.IGNORECASE) is not None
