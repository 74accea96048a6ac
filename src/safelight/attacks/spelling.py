"""Spelling attacks: prompts are misspelt so that people can still read them but filters may not."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import cycle

from safelight import registry
from safelight.attacks.rewriting import RewritingAttack
from safelight.errors import RequestError, unknown_name
from safelight.types import Suite

_WORD = re.compile(r"[^\W\d_]{3,}")
_LOOKALIKES = {
    "a": "аɑ", "b": "Ьƅ", "c": "сϲ", "d": "ԁɗ", "e": "еҽ", "g": "ɡ", "h": "һ", "i": "іӏ", "j": "ј",
    "k": "κк", "l": "ӏ", "m": "м", "n": "ո", "o": "оο", "p": "рρ", "q": "ԛ", "r": "г", "s": "ѕ",
    "t": "т", "u": "υս", "v": "ν", "w": "ԝ", "x": "х", "y": "у", "z": "ᴢ",
}  # fmt: skip
_LEET = {
    "a": "4@", "b": "8", "e": "3", "g": "9", "i": "1!", "l": "1|", "o": "0", "s": "5$", "t": "7+", "z": "2",
}  # fmt: skip
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
_MARKS = "\u0300\u0301\u0302\u0303\u0308\u030a\u0323\u0327"


def homoglyph(word: str, rng: random.Random) -> str:
    """Replace letters by homoglyphs, similar-looking letters of other scripts."""
    return _replaced(word, _LOOKALIKES, rng)


def leet(word: str, rng: random.Random) -> str:
    """Replace letters by digits and signs."""
    return _replaced(word, _LEET, rng)


def zero_width(word: str, rng: random.Random) -> str:
    """Insert zero-width characters between the letters."""
    return "".join(letter + rng.choice(_INVISIBLE) for letter in word[:-1]) + word[-1]


def spacing(word: str, rng: random.Random) -> str:
    """Insert a space between all letters."""
    return " ".join(word)


def dots(word: str, rng: random.Random) -> str:
    """Insert a punctuation mark between all letters."""
    return rng.choice(".-_*").join(word)


def swap(word: str, rng: random.Random) -> str:
    """Swap two neighbouring letters; longer words keep their first and last letter."""
    if len(word) < 4:
        return word[0] + word[:0:-1]
    places = [i for i in range(1, len(word) - 2) if word[i] != word[i + 1]] or [len(word) - 2]
    i = rng.choice(places)
    return word[:i] + word[i + 1] + word[i] + word[i + 2 :]


def tripled(word: str, rng: random.Random) -> str:
    """Triple one letter."""
    i = rng.randrange(len(word))
    return word[:i] + 3 * word[i] + word[i + 1 :]


def accents(word: str, rng: random.Random) -> str:
    """Add combining marks above and below the letters."""
    return "".join(letter + rng.choice(_MARKS) for letter in word)


SPELLINGS: Mapping[str, Callable[[str, random.Random], str]] = {
    function.__name__: function
    for function in (homoglyph, leet, zero_width, spacing, dots, swap, tripled, accents)
}


def misspell(text: str, how: str, rng: random.Random, share: float = 1.0) -> str:
    """Misspell words of at least three letters in the way ``how``: all of them, or on average ``share``."""
    alter = SPELLINGS[how]
    return _WORD.sub(lambda word: alter(word[0], rng) if rng.random() < share else word[0], text)


def misspell_spans(text: str, spans: Iterable[tuple[int, int]], how: str, rng: random.Random) -> str:
    """Return ``text`` with the words inside the spans (start, end) misspelt in the way ``how``."""
    pieces, done = [], 0
    for start, end in sorted(set(spans)):
        if end > done:
            pieces += [text[done:start], misspell(text[max(start, done) : end], how, rng)]
            done = end
    return "".join(pieces) + text[done:]


def respelt(suite: Suite) -> Suite:
    """Return the same suite with every prompt misspelt, in each of the ``SPELLINGS`` in turn."""
    rng, spellings = random.Random(f"{suite.seed} {suite.name}"), cycle(SPELLINGS)
    cases = (replace(each, prompt=misspell(each.prompt, next(spellings), rng)) for each in suite.cases)
    return replace(suite, cases=tuple(cases))


def misspell_somehow(text: str, rng: random.Random) -> str:
    """Misspell some or all words in a random way."""
    return misspell(text, rng.choice(list(SPELLINGS)), rng, rng.choice((0.3, 1.0)))


@registry.register("attack", "spelling")
class SpellingAttack(RewritingAttack):
    """Misspells the words of each prompt in one of the ways in ``SPELLINGS``, by default a random one.

    Raises ``RequestError`` for an unknown spelling.
    """

    def __init__(self, how: str = "") -> None:
        if how and how not in SPELLINGS:
            raise RequestError(unknown_name("spelling", how, SPELLINGS))
        self.name = f"spelling, {how}" if how else "spelling"
        self._how = how

    def rewrite(self, prompt: str, rng: random.Random) -> str:
        return misspell(prompt, self._how, rng) if self._how else misspell_somehow(prompt, rng)


def _replaced(word: str, letters: Mapping[str, str], rng: random.Random) -> str:
    """Replace each replaceable letter with probability 1/2, and at least one of them."""
    places = [i for i, letter in enumerate(word) if letter.lower() in letters]
    if not places:
        return word
    chosen = {i for i in places if rng.random() < 0.5} or {rng.choice(places)}
    return "".join(
        rng.choice(letters[letter.lower()]) if i in chosen else letter for i, letter in enumerate(word)
    )
