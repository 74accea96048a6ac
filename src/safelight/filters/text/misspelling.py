"""Misspelling: finds long listed words with one letter substituted, missing or added."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

# Shorter words become other English words too often when one letter changes.
MIN_LENGTH = 7


class Misspellings:
    """An index of words for lookup at an edit distance of one letter.

    A word and its misspelling share a key, since each is indexed by all strings with one letter deleted.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._words: dict[str, str] = {}
        for word in sorted(words):
            if len(word) >= MIN_LENGTH and word.isascii():
                for shorter in (word, *_deletions(word)):
                    self._words.setdefault(shorter, word)

    def correct(self, written: str) -> str:
        """Return the listed word at edit distance one with the same first letter; empty if there is none."""
        if len(written) < MIN_LENGTH - 1:
            return ""
        found = (self._words.get(shorter, "") for shorter in (written, *_deletions(written)))
        return next((word for word in found if word and _is_one_edit_apart(word, written)), "")


def _deletions(word: str) -> Iterator[str]:
    """Yield the word with each letter but the first deleted in turn."""
    return (word[:i] + word[i + 1 :] for i in range(1, len(word)))


def _is_one_edit_apart(word: str, written: str) -> bool:
    """Return whether words that share a deletion key differ by one substituted, added or missing letter."""
    if len(word) != len(written):
        return abs(len(word) - len(written)) == 1
    return sum(a != b for a, b in zip(word, written, strict=True)) == 1
