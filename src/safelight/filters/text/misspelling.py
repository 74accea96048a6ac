"""Misspelling: long words of a list with one letter wrong, missing or too many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

# In shorter words one letter makes too many other words of them.
SHORTEST = 7


class Misspellings:
    """Finds the word that was meant by what is left of both when a letter is left out."""

    def __init__(self, words: Iterable[str]) -> None:
        self._words: dict[str, str] = {}
        for word in sorted(words):
            if len(word) >= SHORTEST and word.isascii():
                for shorter in (word, *_shortened(word)):
                    self._words.setdefault(shorter, word)

    def meant(self, written: str) -> str:
        """The listed word with another letter; the first letter is right. Empty if there is none."""
        if len(written) < SHORTEST - 1:
            return ""
        found = (self._words.get(shorter, "") for shorter in (written, *_shortened(written)))
        return next((word for word in found if word and _is_near(word, written)), "")


def _shortened(word: str) -> Iterator[str]:
    """The word without one of its letters, which is never the first."""
    return (word[:i] + word[i + 1 :] for i in range(1, len(word)))


def _is_near(word: str, written: str) -> bool:
    """Whether one letter was changed, added or left out; they share all others in order."""
    if len(word) != len(written):
        return abs(len(word) - len(written)) == 1
    return sum(a != b for a, b in zip(word, written, strict=True)) == 1
