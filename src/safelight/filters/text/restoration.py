"""Restoration: undoes obfuscated spellings that people can read but word lists do not match.

It handles digits for letters, dots and spaces between letters, and tripled, swapped or upside-down letters.
Known words are kept, and every replacement is a known word, so harmless text, including names, hardly ever
changes.
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
from safelight.filters.text.folding import TURNED_LETTERS, Folded
from safelight.filters.text.misspelling import Misspellings
from safelight.filters.text.segmentation import Segmenter
from safelight.storage.packaged_files import read_text
from safelight.types import Span

_MIN_LENGTH, _MAX_LENGTH = 3, 24
_MAX_SPELLINGS = 16
_CACHE_SIZE = 1 << 14
# For words written without spaces: the highest frequency rank of a word, by its number of letters, and the
# words that may be part of a pair.
_MAX_RANKS = {3: 1000, 4: 3000, **dict.fromkeys(range(5, _MAX_LENGTH + 1), 6000)}
_SHORT_WORDS = frozenset(
    {"a", "an", "as", "at", "by", "he", "in", "is", "it", "me", "my", "no", "of", "on", "or", "so", "to"}
    | {"up", "us", "we"}
)
_BEFORE_NOUNS = frozenset({"a", "an", "and", "her", "his", "my", "of", "some", "the", "two", "with"})
_SUFFIXES = frozenset({"able", "free", "hood", "less", "like", "proof", "ship", "wise"})
_MIN_PAIR_LETTERS = 9
# Segmentation costs of words that have no frequency rank.
_LISTED_COST, _RARE_COST = 6.0, 11.0
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
# At least three single characters with separators between them.
_SPACED = re.compile(rf"(?<![^\W_]){_ONE}{_GAP}{_ONE}(?:{_GAP}{_ONE})+(?![^\W_])")
_TOKEN = re.compile(r"\S+")
_MAX_PIECES = 6
# Digits, kana, ideographs and the letters that Hangul syllables fold to.
_FILLER = r"[\d\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
_FILLERS = re.compile(_FILLER)
_FILLED = re.compile(rf"[a-z](?:{_FILLER}+[a-z]){{2,}}")
# Letters that look alike in some typefaces.
_SHAPES = (("i", "l"), ("l", "i"), ("vv", "w"), ("rn", "m"))


@dataclass(frozen=True, slots=True)
class Edit:
    """Replaces the folded characters ``[start, end)`` by ``text``."""

    start: int
    end: int
    text: str


class Restored:
    """A folded prompt with ``edits`` applied, which are in order and do not overlap."""

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
        """Return whether any part of ``text[start:end]`` was inserted by an edit."""
        number = bisect_right(self._starts, end - 1) - 1
        return number >= 0 and start < self._starts[number] + len(self.edits[number].text)

    def span(self, start: int, end: int) -> Span:
        """Return the span of the original that ``text[start:end]`` stands for, extended to whole edits."""
        return self.folded.span(self._folded_range(start)[0], self._folded_range(end - 1)[1])

    def _folded_range(self, position: int) -> tuple[int, int]:
        """Return start and end of the folded characters that the character at ``position`` stands for."""
        number = bisect_right(self._starts, position) - 1
        if number < 0:
            return position, position + 1
        edit = self.edits[number]
        past = position - self._starts[number] - len(edit.text)
        return (edit.start, edit.end) if past < 0 else (edit.end + past, edit.end + past + 1)


class _Token(NamedTuple):
    """A token at ``[start, end)``: its letters, the word that it spells, and whether that is a known word."""

    start: int
    end: int
    letters: str
    word: str
    changed: bool
    known: bool


class Restorer:
    """Restores obfuscated spellings of known words.

    Known words are common English words and those in ``sensitive``, ``harmless`` and ``rare``; sensitive ones
    are preferred. Words in ``english``, a subset of the sensitive ones, are also found misspelt and in words
    written without spaces.
    """

    def __init__(
        self,
        sensitive: Collection[str] = (),
        harmless: Collection[str] = (),
        rare: Iterable[str] = (),
        english: Collection[str] = (),
    ) -> None:
        self._sensitive = frozenset(sensitive)
        listed = dict.fromkeys((*harmless, *sensitive), _LISTED_COST)
        self._costs = {**dict.fromkeys(rare, _RARE_COST), **_common_words(), **listed}
        self._segmenter = Segmenter(self._costs, _MAX_LENGTH)
        self._joinable = {**_joinable(), **dict.fromkeys(english, _LISTED_COST)}
        self._joined_segmenter = Segmenter(self._joinable, _MAX_LENGTH)
        self._misspellings = Misspellings(english)
        self._doubled = self._by_single_letters()
        self._word = lru_cache(_CACHE_SIZE)(self._known_word)

    def restore(self, folded: Folded) -> Restored:
        """Restore a folded prompt, in linear time."""
        if all(map(self._is_known, folded.text.split())) and not _SPACED.search(folded.text):
            return Restored(folded, ())
        turned = not TURNED_LETTERS.isdisjoint(folded.original)
        return Restored(folded, self._edits(list(self._tokens(folded.text, turned))))

    def _edits(self, tokens: Sequence[_Token]) -> Iterator[Edit]:
        """Yield the edits, joining tokens that are a sensitive word only together."""
        i = 0
        while i < len(tokens):
            joined = next(filter(None, map(self._sensitive_word, self._runs(tokens, i))), None)
            if joined:
                count, word = joined
                yield Edit(tokens[i].start, tokens[i + count - 1].end, word)
                i += count
                continue
            if tokens[i].changed:
                yield Edit(tokens[i].start, tokens[i].end, tokens[i].word)
            i += 1

    def _runs(self, tokens: Sequence[_Token], start: int) -> Iterator[Sequence[_Token]]:
        """Return the runs of tokens from ``start`` on that may be pieces of one word, longest first."""
        last = start + 1
        while last < min(len(tokens), start + _MAX_PIECES) and not (
            tokens[last - 1].known and tokens[last].known
        ):
            last += 1
        return (tokens[start:end] for end in range(last, start + 1, -1))

    def _sensitive_word(self, pieces: Sequence[_Token]) -> tuple[int, str] | None:
        """Return the number of pieces and the sensitive word that they spell, or None.

        A short word counts only if none of its pieces is a known word by itself.
        """
        for whole in ("".join([p.letters for p in pieces]), "".join([p.word for p in pieces])):
            if whole in self._sensitive:
                known = sum(piece.known and len(piece.word) > 1 for piece in pieces)
                return (len(pieces), whole) if not known or (known == 1 and len(whole) > 5) else None
        return None

    def _tokens(self, text: str, turned: bool) -> Iterator[_Token]:
        done = 0
        for spaced in _SPACED.finditer(text):
            yield from self._whitespace_tokens(text, done, spaced.start(), turned)
            letters = _GAPS.sub("", spaced[0])
            word = self._divide(letters)
            known = len(letters) > 3 and self._is_known(word)
            yield _Token(spaced.start(), spaced.end(), letters, word, True, known)
            done = spaced.end()
        yield from self._whitespace_tokens(text, done, len(text), turned)

    def _whitespace_tokens(self, text: str, start: int, end: int, turned: bool) -> Iterator[_Token]:
        """Yield the tokens separated by whitespace; a token that is not a known word is split at signs."""
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
        if self._is_known(token):
            return _Token(start, end, letters, letters, False, True)
        shortest = _MIN_LENGTH if token.isalpha() else _MIN_LENGTH - 1
        word = self._word(token, turned) if shortest <= len(token) <= 2 * _MAX_LENGTH else ""
        return _Token(start, end, letters, word or letters, bool(word), bool(word))

    def _is_known(self, token: str) -> bool:
        """Return whether every part of the token is a known word or a number."""
        return token in self._costs or all(
            part in self._costs or part.isdecimal() for part in _NOT_LETTERS.split(token) if part
        )

    def _known_word(self, token: str, turned: bool) -> str:
        """Return the known word that ``token`` stands for; empty if there is none."""
        known = [word for word in self._readings(token, turned) if word in self._costs]
        if known:
            return min(known, key=lambda word: (word not in self._sensitive, self._costs[word]))
        letters = token.strip(_OPENING + _CLOSING)
        if not letters.isascii() or not letters.isalpha():
            return ""
        return self._misspellings.correct(letters) or self._split_joined(letters)

    def _split_joined(self, letters: str) -> str:
        """Split words written without spaces; empty unless all are known and one of them is sensitive."""
        words = self._joined_segmenter.divide(letters)[1]
        known = all(map(self._joinable.__contains__, words)) and not self._sensitive.isdisjoint(words)
        return " ".join(words) if known and _is_plausible_split(words) else ""

    def _readings(self, token: str, turned: bool) -> Iterator[str]:
        letters = token
        if not (token.isascii() and token.isalpha()):
            letters = _NOT_LETTERS.sub("", token)
            yield letters
            for spelling in {token.rstrip(_CLOSING), letters}:
                yield from _as_latin(spelling)
            yield from self._without_fillers(letters)
        yield from self._without_repeats(letters)
        if 4 <= len(letters) <= _MAX_LENGTH:
            yield from _transpositions(letters)
        for shape, letter in _SHAPES:
            if shape in letters and (word := letters.replace(shape, letter)) in self._sensitive:
                yield word
        if len(letters) > 4:
            yield from _i_l_variants(letters)
        if turned:
            yield letters[::-1].translate(_UPSIDE_DOWN)

    def _without_repeats(self, letters: str) -> Iterator[str]:
        """Yield the letters with repetitions collapsed.

        A doubled letter is collapsed only if the result is a sensitive word, a tripled one always.
        """
        if _REPEATED.search(letters):
            single = _collapse_repeats(letters)
            for word in (single, self._doubled.get(single, "")):
                if word in self._sensitive or _TRIPLE.search(letters):
                    yield word

    def _without_fillers(self, letters: str) -> Iterator[str]:
        """Yield the Latin letters alone if fillers separate all of them or they spell a sensitive word."""
        latin = _FILLERS.sub("", letters)
        if _FILLED.fullmatch(letters) or (len(latin) > _MIN_LENGTH and latin in self._sensitive):
            yield latin

    def _by_single_letters(self) -> dict[str, str]:
        """Map words with doubled letters from their collapsed spelling; sensitive ones take precedence."""
        doubled = filter(_REPEATED.search, self._costs)
        last = sorted(doubled, key=lambda word: (word in self._sensitive, -self._costs[word]))
        known = _collapsed()
        return {known.get(word) or _collapse_repeats(word): word for word in last}

    def _divide(self, letters: str) -> str:
        """Return ``letters`` divided into known words."""
        if letters in self._costs:
            return letters
        if len(letters) <= _MAX_LENGTH and (word := self._word(letters, False)):
            return word
        if letters.isdecimal():
            return letters
        # Only the first and last letter that each digit may stand for; trying all would take too long.
        spellings = {"".join(_LEET.get(letter, letter)[which] for letter in letters) for which in (0, -1)}
        return " ".join(min(map(self._segmenter.divide, spellings))[1])


@cache
def _common_words() -> dict[str, float]:
    """Return common words with their costs: the negative log frequency according to Zipf's law.

    The last words are rare; they are included because a typo turns them into a listed word (ogre, rapping).
    """
    words = read_text(Path(__file__).with_name("words.txt"), FilterError).split()
    return {word: math.log(rank + 10) for rank, word in enumerate(words)}


@cache
def _collapsed() -> dict[str, str]:
    """Map the English words with doubled letters to their collapsed spelling."""
    words = filter(_REPEATED.search, (*_common_words(), *rare_words()))
    return {word: _collapse_repeats(word) for word in words}


@cache
def _joinable() -> dict[str, float]:
    """Return the words that may be written together with others; short ones must be more common."""
    ranked = enumerate(_common_words().items())
    return {
        word: cost
        for rank, (word, cost) in ranked
        if rank < _MAX_RANKS.get(len(word), 0) or word in _SHORT_WORDS
    }


def _is_plausible_split(words: Sequence[str]) -> bool:
    """Return whether the words are unlikely to result from a name or by chance, as "gun it a" from Gunita."""
    if len(words) == 2 and words[0] not in _BEFORE_NOUNS:
        if words[1] in _SUFFIXES:
            return False
        return min(map(len, words)) > _MIN_LENGTH and sum(map(len, words)) >= _MIN_PAIR_LETTERS
    return len(words) > 1 and words[-1] != "a"


@cache
def rare_words() -> tuple[str, ...]:
    """Return less common English words of four letters or more, including inflected forms."""
    lines = read_text(Path(__file__).with_name("rare_words.txt"), FilterError).splitlines()
    return tuple(line for line in lines if not line.startswith("#"))


def _collapse_repeats(word: str) -> str:
    return _REPEATED.sub(r"\1", word)


def _as_latin(token: str) -> Iterator[str]:
    """Yield every reading of a token's digits, signs and non-Latin letters as Latin letters.

    A token without any letter has none.
    """
    if not any(map(str.isalpha, token)) or _READ_AS.keys().isdisjoint(token):
        return
    choices = [_READ_AS.get(character, character) for character in token]
    if math.prod(map(len, choices)) <= _MAX_SPELLINGS:
        yield from map("".join, product(*choices))


def _i_l_variants(word: str) -> Iterator[str]:
    """Yield the word with one or all of its letters i replaced by l, and the reverse."""
    for slim, other in (("i", "l"), ("l", "i")):
        yield from (word[:i] + other + word[i + 1 :] for i, letter in enumerate(word) if letter == slim)
        yield word.replace(slim, other)


def _transpositions(word: str) -> Iterator[str]:
    """Yield the word with each pair of adjacent letters swapped."""
    for i in range(len(word) - 1):
        yield word[:i] + word[i + 1] + word[i] + word[i + 2 :]
