"""Prompts from a grammar: harmful and harmless wishes, worded in the same manners (``grammar.toml``)."""

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
_WISH = "what"
# How many prompts ask for harmless things too, and which: nobody is in them, so that they suit any wish.
_LONG = 0.2
_COMPANY = "nature_and_places"


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt and the categories of harm that it asks for; none if it is harmless.

    ``family`` is where it comes from: texts of one family have a style in common.
    """

    prompt: str
    categories: frozenset[str]
    family: str


def write(seed: int) -> Iterator[Text]:
    """Texts without end, half of them harmful, all categories and all kinds of harmless ones alike."""
    grammar, rng = _grammar(), random.Random(seed)
    while True:
        harmful = rng.random() < 0.5
        kinds = grammar["harmful" if harmful else "harmless"]
        kind = rng.choice(list(kinds))
        wish = _wish(rng.choice(kinds[kind]), rng)
        manner = rng.choice(grammar["manners"][rng.choice(list(grammar["manners"]))])
        prompt = _expanded(manner, rng, wish)
        yield Text(prompt, frozenset({kind}) if harmful else frozenset(), FAMILY)


def _wish(template: str, rng: random.Random) -> str:
    """One thing, or several in sentences of which only one may be harmful."""
    wish = _expanded(template, rng)
    if rng.random() >= _LONG:
        return wish
    others: list[str] = _grammar()["harmless"][_COMPANY]
    wishes = [wish, *(_expanded(other, rng) for other in rng.sample(others, rng.randint(1, 5)))]
    rng.shuffle(wishes)
    return rng.choice((". ", ", ", "; ", " and ")).join(wishes)


def _expanded(template: str, rng: random.Random, wish: str = "") -> str:
    """Every choice made and every list drawn from, inner ones first."""

    def chosen(slot: re.Match[str]) -> str:
        if slot[1]:
            options: list[str] = _grammar()["lists"][slot[2]]
            return rng.choice(options)
        return wish if slot[2] == _WISH else rng.choice(slot[2].split("|"))

    while "{" in template:
        template = _SLOT.sub(chosen, template)
    return template


@cache
def _grammar() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("grammar.toml").read_text("utf-8"))
