"""Generates prompts from a grammar: harmful and benign subjects in the same phrasings (``grammar.toml``)."""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_SLOT = re.compile(r"\{(@?)([^{}]*)\}")
FAMILY = "our grammar"
_SUBJECT_SLOT = "what"
# The share of prompts that ask for benign things as well, and the kind of these: they contain no people, so
# that they fit every subject.
_COMBINED_SHARE = 0.2
_COMBINED_KIND = "nature_and_places"


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt and the categories of harm that it asks for; none if it is benign.

    ``family`` is its origin: texts of one family share a style. ``precise`` tells whether the text was
    labelled with exactly these categories; a source may name and divide harm otherwise.
    """

    prompt: str
    categories: frozenset[str]
    family: str
    precise: bool = False


def generate_texts(seed: int) -> Iterator[Text]:
    """Yield an endless stream of texts, half of them harmful, with balanced categories and benign kinds."""
    grammar, rng = _grammar(), random.Random(seed)
    while True:
        harmful = rng.random() < 0.5
        kinds = grammar["harmful" if harmful else "harmless"]
        kind = rng.choice(list(kinds))
        subject = _subject(rng.choice(kinds[kind]), rng)
        manner = rng.choice(grammar["manners"][rng.choice(list(grammar["manners"]))])
        prompt = _expand(manner, rng, subject)
        yield Text(prompt, frozenset({kind}) if harmful else frozenset(), FAMILY, precise=True)


def _subject(template: str, rng: random.Random) -> str:
    """Return one subject, or several of which at most one is harmful."""
    subject = _expand(template, rng)
    if rng.random() >= _COMBINED_SHARE:
        return subject
    others: list[str] = _grammar()["harmless"][_COMBINED_KIND]
    subjects = [subject, *(_expand(other, rng) for other in rng.sample(others, rng.randint(1, 5)))]
    rng.shuffle(subjects)
    return rng.choice((". ", ", ", "; ", " and ")).join(subjects)


def _expand(template: str, rng: random.Random, subject: str = "") -> str:
    """Expand a template: make every choice and sample from every list, innermost first."""

    def chosen(slot: re.Match[str]) -> str:
        if slot[1]:
            options: list[str] = _grammar()["lists"][slot[2]]
            return rng.choice(options)
        return subject if slot[2] == _SUBJECT_SLOT else rng.choice(slot[2].split("|"))

    while "{" in template:
        template = _SLOT.sub(chosen, template)
    return template


@cache
def _grammar() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("grammar.toml").read_text("utf-8"))
