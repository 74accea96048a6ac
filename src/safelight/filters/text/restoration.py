"""Restoration: undoing what hides a word from a list while a person still reads it.

Digits for letters, dots and blanks between letters, letters tripled, swapped or turned upside down. A word
that is known stays as it is, and whatever is put in its place is a known word: so harmless text, names
included, is hardly ever touched.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

from safelight.errors import FilterError
from safelight.filters.text.alphabets import lookalikes
from safelight.filters.text.folding import TURNED, Folded
from safelight.filters.text.misspelling import Misspellings
from safelight.filters.text.segmentation import Segmenter
from safelight.storage.packaged_files import read_text
from safelight.types import Span

_SHORTEST, _LONGEST = 3, 24
_SPELLINGS = 16
_REMEMBERED = 1 << 14
# In what is glued: how common words of so many letters must be, and what only two words must be like.
_GLUABLE_RANKS = {3: 1000, 4: 3000, **dict.fromkeys(range(5, _LONGEST + 1), 6000)}
_SHORT_WORDS = frozenset(
    {"a", "an", "as", "at", "by", "he", "in", "is", "it", "me", "my", "no", "of", "on", "or", "so", "to"}
    | {"up", "us", "we"}
)
_BEFORE_NOUNS = frozenset({"a", "an", "and", "her", "his", "my", "of", "some", "the", "two", "with"})
_SUFFIXES = frozenset({"able", "free", "hood", "less", "like", "proof", "ship", "wise"})
_GLUED_LETTERS = 9
# Costs of words that have no rank among the common ones.
_LISTED, _RARE = 6.0, 11.0
_LEET = {
    "0": "o", "1": "il", "2": "z", "3": "e", "4": "a", "5": "s", "6": "gb", "7": "t", "8": "b", "9": "g",
    "@": "a", "$": "s", "!": "il", "|": "il", "+": "t", "(": "c", "<": "c", "€": "e", "£": "l", "¥": "y",
}  # fmt: skip
_READ_AS = {**_LEET, **lookalikes()}
_UPSIDE_DOWN = str.maketrans("nubqdp", "unqbpd")
_CLOSING = ".,;:?)]}>\"'*_~`"
_NOT_LETTERS = re.compile(r"[\W_]+")
_GAPS = re.compile(r"[^\w!@$]+|_+")
_TRIPLE = re.compile(r"(.)\1\1")
_REPEATED = re.compile(r"(.)\1+")
_OPENING = "([{<\"'*_~`#"
_PART = re.compile(r"[^,/|:;()\[\]<>{}=\"#*+~^&.\-]+")
_GAP = r"(?:[^\w\n]|_){1,8}?"
_ONE = r"(?:[^\W_]|(?<=\s)[!@$](?=\s))"
# At least three single characters with something between them.
_SPACED = re.compile(rf"(?<![^\W_]){_ONE}{_GAP}{_ONE}(?:{_GAP}{_ONE})+(?![^\W_])")
_TOKEN = re.compile(r"\S+")
_MOST_PIECES = 6
# Digits, kana, ideographs and what syllables of Hangul fold to.
_FILLER = r"[\d\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
_FILLERS = re.compile(_FILLER)
_FILLED = re.compile(rf"[a-z](?:{_FILLER}+[a-z]){{2,}}")
# Letters that look like others in some typefaces.
_SHAPES = (("i", "l"), ("l", "i"), ("vv", "w"), ("rn", "m"))


@dataclass(frozen=True, slots=True)
class Edit:
    """``text`` stands for the folded characters ``[start, end)``."""

    start: int
    end: int
    text: str


class Restored:
    """A folded prompt with ``edits`` made, in order and without overlap."""

    def __init__(self, folded: Folded, edits: Iterable[Edit]) -> None:
        self.folded = folded
        self.edits = list(edits)
        pieces, done = [], 0
        self._starts: list[int] = []
        length = 0
        for edit in self.edits:
            pieces += [folded.text[done : edit.start], edit.text]
            length += edit.start - done
            self._starts.append(length)
            length += len(edit.text)
            done = edit.end
        self.text = "".join(pieces) + folded.text[done:]

    def is_edited(self, start: int, end: int) -> bool:
        """Whether an edit made a part of ``text[start:end]``."""
        number = bisect_right(self._starts, end - 1) - 1
        return number >= 0 and start < self._starts[number] + len(self.edits[number].text)

    def span(self, start: int, end: int) -> Span:
        """The part of the original that ``text[start:end]`` stands for; whole edits, where it touches one."""
        return self.folded.span(self._before(start)[0], self._before(end - 1)[1])

    def _before(self, position: int) -> tuple[int, int]:
        """The folded characters that the one at ``position`` stands for."""
        number = bisect_right(self._starts, position) - 1
        if number < 0:
            return position, position + 1
        edit = self.edits[number]
        past = position - self._starts[number] - len(edit.text)
        return (edit.start, edit.end) if past < 0 else (edit.end + past, edit.end + past + 1)


class _Token(NamedTuple):
    """Characters ``[start, end)``, their letters, the word they spell, and whether that is known."""

    start: int
    end: int
    letters: str
    word: str
    changed: bool
    known: bool


class Restorer:
    """Knows common English words, ``sensitive`` ones, which it prefers, ``harmless`` and ``rare`` ones.

    Of the sensitive ones the ``english`` are found misspelt and glued to others as well.
    """

    def __init__(
        self,
        sensitive: Collection[str] = (),
        harmless: Collection[str] = (),
        rare: Iterable[str] = (),
        english: Collection[str] = (),
    ) -> None:
        self._sensitive = frozenset(sensitive)
        listed = dict.fromkeys((*harmless, *sensitive), _LISTED)
        self._costs = {**dict.fromkeys(rare, _RARE), **_common(), **listed}
        self._segmenter = Segmenter(self._costs, _LONGEST)
        self._gluable = {**_gluable(), **dict.fromkeys(english, _LISTED)}
        self._glue = Segmenter(self._gluable, _LONGEST)
        self._misspellings = Misspellings(english)
        self._doubled = self._by_single_letters()
        self._word = lru_cache(_REMEMBERED)(self._read)

    def restore(self, folded: Folded) -> Restored:
        """In time linear in the length of the prompt."""
        if all(map(self._is_plain, folded.text.split())) and not _SPACED.search(folded.text):
            return Restored(folded, ())
        turned = not TURNED.isdisjoint(folded.original)
        return Restored(folded, self._edits(list(self._tokens(folded.text, turned))))

    def _edits(self, tokens: Sequence[_Token]) -> Iterator[Edit]:
        """Some tokens become one if only together they are a word that matters."""
        i = 0
        while i < len(tokens):
            joined = next(filter(None, map(self._joined, self._runs(tokens, i))), None)
            if joined:
                count, word = joined
                yield Edit(tokens[i].start, tokens[i + count - 1].end, word)
                i += count
                continue
            if tokens[i].changed:
                yield Edit(tokens[i].start, tokens[i].end, tokens[i].word)
            i += 1

    def _runs(self, tokens: Sequence[_Token], start: int) -> Iterator[Sequence[_Token]]:
        """Tokens from ``start`` on that may be pieces of one word, the most first."""
        last = start + 1
        while last < min(len(tokens), start + _MOST_PIECES) and not (
            tokens[last - 1].known and tokens[last].known
        ):
            last += 1
        return (tokens[start:end] for end in range(last, start + 1, -1))

    def _joined(self, pieces: Sequence[_Token]) -> tuple[int, str] | None:
        """How many pieces there are, and the sensitive word they make; a short one only if none is a word."""
        for whole in ("".join([p.letters for p in pieces]), "".join([p.word for p in pieces])):
            if whole in self._sensitive:
                known = sum(piece.known and len(piece.word) > 1 for piece in pieces)
                return (len(pieces), whole) if not known or (known == 1 and len(whole) > 5) else None
        return None

    def _tokens(self, text: str, turned: bool) -> Iterator[_Token]:
        done = 0
        for spaced in _SPACED.finditer(text):
            yield from self._written(text, done, spaced.start(), turned)
            letters = _GAPS.sub("", spaced[0])
            word = self._divided(letters)
            known = len(letters) > 3 and self._is_plain(word)
            yield _Token(spaced.start(), spaced.end(), letters, word, True, known)
            done = spaced.end()
        yield from self._written(text, done, len(text), turned)

    def _written(self, text: str, start: int, end: int, turned: bool) -> Iterator[_Token]:
        """The tokens between blanks; those that are no word as a whole, by their parts."""
        for match in _TOKEN.finditer(text, start, end):
            whole = self._token(match[0], match.start(), turned)
            parts = list(_PART.finditer(match[0])) if not whole.known else []
            if not parts or parts[0][0] == match[0]:
                yield whole
                continue
            yield from (self._token(part[0], match.start() + part.start(), turned) for part in parts)

    def _token(self, token: str, start: int, turned: bool) -> _Token:
        end = start + len(token.rstrip(_CLOSING))
        start += len(token) - len(token.lstrip(_OPENING))
        letters = token if token.isalpha() else _NOT_LETTERS.sub("", token)
        if self._is_plain(token):
            return _Token(start, end, letters, letters, False, True)
        shortest = _SHORTEST if token.isalpha() else _SHORTEST - 1
        word = self._word(token, turned) if shortest <= len(token) <= 2 * _LONGEST else ""
        return _Token(start, end, letters, word or letters, bool(word), bool(word))

    def _is_plain(self, token: str) -> bool:
        """Whether every part is a known word, or a number."""
        return token in self._costs or all(
            part in self._costs or part.isdecimal() for part in _NOT_LETTERS.split(token) if part
        )

    def _read(self, token: str, turned: bool) -> str:
        """The known word that ``token`` stands for; empty if there is none."""
        known = [word for word in self._readings(token, turned) if word in self._costs]
        if known:
            return min(known, key=lambda word: (word not in self._sensitive, self._costs[word]))
        letters = token.strip(_OPENING + _CLOSING)
        if not letters.isascii() or not letters.isalpha():
            return ""
        return self._misspellings.meant(letters) or self._unglued(letters)

    def _unglued(self, letters: str) -> str:
        """The words that were written without blanks; empty unless one of them is sensitive."""
        words = self._glue.divide(letters)[1]
        known = all(map(self._gluable.__contains__, words)) and not self._sensitive.isdisjoint(words)
        return " ".join(words) if known and _is_glued(words) else ""

    def _readings(self, token: str, turned: bool) -> Iterator[str]:
        letters = token
        if not (token.isascii() and token.isalpha()):
            letters = _NOT_LETTERS.sub("", token)
            yield letters
            for spelling in {token.rstrip(_CLOSING), letters}:
                yield from _as_latin(spelling)
            yield from self._without_fillers(letters)
        yield from self._without_repeats(letters)
        if 4 <= len(letters) <= _LONGEST:
            yield from _swapped(letters)
        for seen, meant in _SHAPES:
            if seen in letters and (word := letters.replace(seen, meant)) in self._sensitive:
                yield word
        if len(letters) > 4:
            yield from _one_slim_letter(letters)
        if turned:
            yield letters[::-1].translate(_UPSIDE_DOWN)

    def _without_repeats(self, letters: str) -> Iterator[str]:
        """The letters written once where one is tripled; where it is only doubled, if that is sensitive."""
        if _REPEATED.search(letters):
            single = _single(letters)
            for word in (single, self._doubled.get(single, "")):
                if word in self._sensitive or _TRIPLE.search(letters):
                    yield word

    def _without_fillers(self, letters: str) -> Iterator[str]:
        """The Latin letters alone, if something stands between all of them, or they are a sensitive word."""
        latin = _FILLERS.sub("", letters)
        if _FILLED.fullmatch(letters) or (len(latin) > _SHORTEST and latin in self._sensitive):
            yield latin

    def _by_single_letters(self) -> dict[str, str]:
        """Words with doubled letters by what is left when each is written once; those that matter stay."""
        doubled = filter(_REPEATED.search, self._costs)
        last = sorted(doubled, key=lambda word: (word in self._sensitive, -self._costs[word]))
        return {_single(word): word for word in last}

    def _divided(self, letters: str) -> str:
        """Words from letters without blanks."""
        if letters in self._costs:
            return letters
        if len(letters) <= _LONGEST and (word := self._word(letters, False)):
            return word
        if letters.isdecimal():
            return letters
        # The first and the last letter that each digit may stand for: more would take too long.
        spellings = {"".join(_LEET.get(letter, letter)[which] for letter in letters) for which in (0, -1)}
        return " ".join(min(map(self._segmenter.divide, spellings))[1])


@cache
def _common() -> dict[str, float]:
    """Common words, each with minus the logarithm of how often it is used, by Zipf's law.

    The last ones are rare, and there because a slip would make a listed word of them: ogre, rapping.
    """
    words = read_text(Path(__file__).with_name("words.txt"), FilterError).split()
    return {word: math.log(rank + 10) for rank, word in enumerate(words)}


@cache
def _gluable() -> dict[str, float]:
    """Words that others may be glued to: the shorter, the more common."""
    ranked = enumerate(_common().items())
    return {
        word: cost
        for rank, (word, cost) in ranked
        if rank < _GLUABLE_RANKS.get(len(word), 0) or word in _SHORT_WORDS
    }


def _is_glued(words: Sequence[str]) -> bool:
    """Whether chance, or a name, is unlikely to make a row of these words: Gunita is not "gun it a"."""
    if len(words) == 2 and words[0] not in _BEFORE_NOUNS:
        if words[1] in _SUFFIXES:
            return False
        return min(map(len, words)) > _SHORTEST and sum(map(len, words)) >= _GLUED_LETTERS
    return len(words) > 1 and words[-1] != "a"


@cache
def rare_words() -> tuple[str, ...]:
    """Other English words, of four letters or more, inflected forms included."""
    lines = read_text(Path(__file__).with_name("rare_words.txt"), FilterError).splitlines()
    return tuple(line for line in lines if not line.startswith("#"))


def _single(word: str) -> str:
    return _REPEATED.sub(r"\1", word)


def _as_latin(token: str) -> Iterator[str]:
    """Every way to read digits, signs and letters of other scripts as Latin letters, beside some letters."""
    if not any(map(str.isalpha, token)) or _READ_AS.keys().isdisjoint(token):
        return
    choices = [_READ_AS.get(character, character) for character in token]
    if math.prod(map(len, choices)) <= _SPELLINGS:
        yield from map("".join, product(*choices))


def _one_slim_letter(word: str) -> Iterator[str]:
    """The word with one i for an l, or one l for an i, or all of them."""
    for slim, other in (("i", "l"), ("l", "i")):
        yield from (word[:i] + other + word[i + 1 :] for i, letter in enumerate(word) if letter == slim)
        yield word.replace(slim, other)


def _swapped(word: str) -> Iterator[str]:
    """The word with two neighbouring letters swapped back."""
    for i in range(len(word) - 1):
        yield word[:i] + word[i + 1] + word[i] + word[i + 2 :]
