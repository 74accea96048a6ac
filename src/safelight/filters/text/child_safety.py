"""Detects requests that sexualise minors: words about minors near sexual words (``child_safety.toml``).

No prompts of this kind are collected or written, so nothing is trained for it. The rule is made of terms:

- a word about a minor (an age below 18, a school year, "child" and the like), or a word for a person who may
  be young ("girl") within a few words of a childlike trait;
- an explicit word anywhere near it, or a suggestive word close to it;
- a word that is negated ("no nudity") does not count.

It fails closed: "an adult dressed as a schoolgirl" is a minor here, because the image would show one.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from safelight.errors import FilterError
from safelight.filters.text.lexicon import Lexicon
from safelight.policy.category import CSAE
from safelight.registry import register
from safelight.types import Finding, Span

# Largest distances, in words.
_EXPLICIT_DISTANCE = 60
_SUGGESTIVE_DISTANCE = 12
_TRAIT_DISTANCE = 8
# An explicit word counts for a person with a childlike trait only this near.
_PERSON_DISTANCE = 12
# A word after one of these, or after one of these and any other word, is negated.
_NEGATIONS = frozenset({"no", "not", "non", "never", "without", "zero"})
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class _Match:
    """A found word: its place in the prompt, in characters and in words."""

    span: Span
    first: int
    last: int

    def distance(self, other: _Match) -> int:
        """Return the number of words between two matches, 0 if they touch or overlap."""
        return max(0, other.first - self.last - 1, self.first - other.last - 1)


@register("prompt_filter", "child-safety")
class ChildSafety:
    """Reports ``csae`` for prompts that put a minor near something sexual, in any spelling.

    Each finding has the span of the sexual word. ``words`` is the name of a packaged word list or the path
    of a TOML file with the labels minor, young_person, childlike, explicit and suggestive. Raises
    ``FilterError`` if the list cannot be read.
    """

    labels = frozenset({CSAE})

    def __init__(self, words: str = "child_safety", name: str = "child-safety") -> None:
        self.name = name
        self._words = Lexicon(words, name)
        self.version = self._words.version

    def find(self, prompts: Sequence[str]) -> list[list[Finding] | FilterError]:
        return [
            found if isinstance(found, FilterError) else self._findings(prompt, found)
            for prompt, found in zip(prompts, self._words.find(prompts), strict=True)
        ]

    def _findings(self, prompt: str, found: Iterable[Finding]) -> list[Finding]:
        matches = _matches(prompt, found)
        people = list(_near(matches["young_person"], matches["childlike"], _TRAIT_DISTANCE))
        sexual = [
            *_near(matches["explicit"], matches["minor"], _EXPLICIT_DISTANCE),
            *_near(matches["explicit"], people, _PERSON_DISTANCE),
            *_near(matches["suggestive"], matches["minor"], _SUGGESTIVE_DISTANCE),
            *_near(matches["suggestive"], people, _PERSON_DISTANCE),
        ]
        return [Finding(CSAE, 1.0, self.name, match.span) for match in dict.fromkeys(sexual)]


def _matches(prompt: str, found: Iterable[Finding]) -> dict[str, list[_Match]]:
    """Return the matches of each label, without negated sexual words."""
    words = list(_WORD.finditer(prompt))
    ends = [word.end() for word in words]
    matches: dict[str, list[_Match]] = {
        label: [] for label in ("minor", "young_person", "childlike", "explicit", "suggestive")
    }
    for finding in found:
        span = finding.evidence
        if not isinstance(span, Span):
            continue
        first, last = bisect_right(ends, span.start), bisect_left(ends, span.end)
        sexual = finding.label in ("explicit", "suggestive")
        if sexual and _is_negated(prompt, words[max(0, first - 2) : first], span.start):
            continue
        matches[finding.label].append(_Match(span, first, max(first, last)))
    return matches


def _is_negated(prompt: str, before: Sequence[re.Match[str]], start: int) -> bool:
    """Return whether one of the words ``before`` negates what starts at ``start``.

    Only blanks and hyphens may stand between them: "no, nude" negates something else.
    """
    for word in reversed(before):
        if not (between := prompt[word.end() : start]) or between.strip(" -"):
            return False
        if word[0].lower() in _NEGATIONS:
            return True
        start = word.start()
    return False


def _near(these: Iterable[_Match], others: Sequence[_Match], distance: int) -> Iterator[_Match]:
    """Yield those of ``these`` that are at most ``distance`` words from one of the ``others``."""
    return (each for each in these if any(each.distance(other) <= distance for other in others))
