"""Word lists: finds listed words and phrases in any spelling, with their position in the prompt.

A prompt is read twice: folded, which undoes look-alike letters, case and invisible characters; and, where
that differs, restored, which undoes digits for letters, dots and spaces between letters and the like.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, Self

import re2
from ahocorasick_rs import AhoCorasick
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from safelight.errors import FilterError, unknown_name
from safelight.filters.text.decoding import sources
from safelight.filters.text.folding import Folded, fold
from safelight.filters.text.restoration import Restorer, rare_words
from safelight.policy.taxonomy import load_taxonomy
from safelight.registry import register
from safelight.storage.toml_file import TomlFile
from safelight.types import Finding, Span

_PACKAGED = Path(__file__).with_name("lexicons")
# Letters with their marks, or digits. The only signs in folded text are those of ASCII and currency signs.
_WORD = re.compile(r"\d+|[^\s\d!-/:-@\[-`{-~€£¥]+")
_BREAK = re.compile(r"[^\w\s'’-]|\n")
# Scripts that put no spaces between words: Thai to Myanmar, kana, ideographs.
_UNSPACED = re.compile(r"[\u0e00-\u0fff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
_MIN_WORD_LENGTH = 3
_PATTERN_BYTES = 1 << 20
# The largest size of a word list's file.
_MAX_BYTES = 1 << 22
# For each pair of a label and a score; further findings would not change the verdict.
_MAX_FINDINGS = 100
# The score of phrases with harmless senses. A policy that blocks from a higher score on reviews them.
_AMBIGUOUS = 0.6

_Text = Annotated[str, Field(min_length=1)]
_Phrases = Annotated[tuple[_Text, ...], Field(strict=False, min_length=1)]
_Score = Annotated[float, Field(gt=0, le=1)]


class _Lexicon(BaseModel):
    """The content of a word list's file.

    The score of a phrase is its own, else that of its label, else 1. ``languages`` has the phrases of other
    languages, and ``ambiguous`` those of them with harmless senses, which score 0.6. ``allow`` are phrases
    that excuse the listed words in them; ``patterns`` are regular expressions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: str
    labels: dict[str, _Phrases] = {}
    languages: dict[str, dict[str, _Phrases]] = {}
    ambiguous: dict[str, dict[str, _Phrases]] = {}
    patterns: dict[str, _Phrases] = {}
    allow: Annotated[tuple[_Text, ...], Field(strict=False)] = ()
    scores: dict[str, _Score] = {}

    @model_validator(mode="after")
    def _scores_something(self) -> Self:
        scored = {name for label, phrase, _ in self.entries() for name in (label, phrase)}
        scored |= self.patterns.keys()
        if unknown := sorted(self.scores.keys() - scored):
            raise ValueError(f'"{unknown[0]}" has a score, but no label and no phrase is called that')
        return self

    def entries(self) -> Iterator[tuple[str, str, float]]:
        """Yield every label with each of its phrases and the score of the phrase."""
        certain = [(labels, self.scores) for labels in (self.labels, *self.languages.values())]
        ambiguous = [(labels, dict.fromkeys(labels, _AMBIGUOUS)) for labels in self.ambiguous.values()]
        for labels, scores in (*certain, *ambiguous):
            for label, phrases in labels.items():
                score = scores.get(label, 1.0)
                yield from ((label, phrase, self.scores.get(phrase, score)) for phrase in phrases)


class _Reading(Protocol):
    """A normalised text of a prompt that maps its characters back to the original."""

    text: str

    def span(self, start: int, end: int) -> Span: ...


class _Words:
    """The words of a text joined by single spaces, and the position of each in the text."""

    def __init__(self, text: str) -> None:
        self._original = text
        self.text = " ".join(_WORD.findall(text))

    def is_whole(self, start: int, end: int) -> bool:
        """Return whether ``text[start:end]`` consists of whole words, in scripts that separate words."""
        return self._is_edge(start) and self._is_edge(end)

    def _is_edge(self, position: int) -> bool:
        around = self.text[max(0, position - 1) : position + 1]
        return len(around) < 2 or " " in around or bool(_UNSPACED.search(around))

    def places(self, start: int, end: int) -> tuple[int, int]:
        """Return the start and end in the original text of the characters ``[start, end)``."""
        first, last = self._original_position(start), self._original_position(end - 1)
        return first, last + 1

    def _original_position(self, position: int) -> int:
        starts, origins = self._starts
        word = bisect_right(starts, position) - 1
        return origins[word] + position - starts[word]

    @cached_property
    def _starts(self) -> tuple[list[int], list[int]]:
        """The start of every word in the joined words, and in the original text."""
        matches = list(_WORD.finditer(self._original))
        lengths = (len(match[0]) + 1 for match in matches)
        return list(accumulate(lengths, initial=0))[:-1], [match.start() for match in matches]


class _AllowedSpans:
    """The spans of the allowed phrases in a text."""

    def __init__(self, spans: Iterable[tuple[int, int]]) -> None:
        longest: dict[int, int] = {}
        for start, end in spans:
            longest[start] = max(end, longest.get(start, 0))
        self._starts = sorted(longest)
        self._ends = list(accumulate((longest[start] for start in self._starts), max))

    def covers(self, start: int, end: int) -> bool:
        """Return whether one allowed phrase covers all of ``[start, end)``."""
        before = bisect_right(self._starts, start)
        return before > 0 and self._ends[before - 1] >= end


class _WordList:
    """A word list prepared for search."""

    def __init__(self, words: str | Path) -> None:
        file, lexicon = _load(words)
        self.version = f"{Path(words).stem} {lexicon.version}"
        self.labels = frozenset(label for label, *_ in lexicon.entries()) | lexicon.patterns.keys()
        self.scores = lexicon.scores
        self.phrases: dict[str, dict[str, float]] = {}
        forms = {phrase: _folded_forms(phrase, file) for _, phrase, _ in lexicon.entries()}
        for label, phrase, score in lexicon.entries():
            for form in forms[phrase]:
                self.phrases.setdefault(form, {})[label] = score
        self.allowed = {form for phrase in lexicon.allow for form in _folded_forms(phrase, file)}
        self.listed = list(self.phrases.keys() | self.allowed)
        english = {form for label in lexicon.labels.values() for phrase in label for form in forms[phrase]}
        self.restorer = Restorer(
            sensitive=_single_words(self.phrases),
            harmless=_single_words(self.allowed),
            rare=rare_words(),
            english=_single_words(english),
        )
        self.automaton = AhoCorasick(self.listed)
        self.patterns = [
            (label, _compile(pattern, file))
            for label, patterns in lexicon.patterns.items()
            for pattern in patterns
        ]


# Several filters of a policy search the same packaged list, and preparing it takes long.
_packaged_list = cache(_WordList)


@register("prompt_filter", "lexicon")
class Lexicon:
    """Reports the label of every listed word, phrase or pattern, with its span in the original prompt.

    ``words`` is the name of a packaged word list or the path of a TOML file. Raises ``FilterError`` if the
    list does not exist or is malformed. The time is linear in the length of any prompt, since regular
    expressions run on RE2.
    """

    packaged: ClassVar[frozenset[str]] = frozenset(path.stem for path in _PACKAGED.glob("*.toml"))

    def __init__(self, words: str | Path = "general", name: str = "lexicon") -> None:
        self._words = _packaged_list(words) if words in self.packaged else _WordList(words)
        self.name = name
        self.version = self._words.version
        self.labels = self._words.labels

    def find(self, prompts: Sequence[str]) -> list[list[Finding] | FilterError]:
        return [self._findings(prompt) for prompt in prompts]

    def harm_scores(self, prompts: Sequence[str]) -> list[float]:
        """Return the highest score of a category of harm for each prompt.

        It is 0 if no label found in the prompt is a category, and 1 for a prompt that cannot be read.
        """
        harms = load_taxonomy().categories
        return [
            1.0
            if isinstance(findings, FilterError)
            else max((finding.score for finding in findings if finding.label in harms), default=0.0)
            for findings in self.find(prompts)
        ]

    def _findings(self, prompt: str) -> list[Finding] | FilterError:
        counts: Counter[tuple[str, float]] = Counter()
        try:
            found = {
                each: None for reading in self._readings(prompt) for each in self._found(reading, counts)
            }
        except FilterError as error:
            return error
        return list(found)

    def _readings(self, prompt: str) -> Iterator[_Reading]:
        """Yield every reading of the prompt in which words are searched.

        These are the folded and, if it differs, the restored text: of the prompt and of the decoded prompt,
        each with emoji replaced by their names and by signs.
        """
        for source in sources(prompt):
            named, signs = Folded(source), Folded(source, emoji=False)
            for folded in (named, signs) if signs.text != named.text else (named,):
                yield folded
                if (restored := self._words.restorer.restore(folded)).edits:
                    yield restored

    def _found(self, reading: _Reading, counts: Counter[tuple[str, float]]) -> Iterator[Finding]:
        """Yield the findings in one reading, up to the limit for each label and score."""
        for label, score, start, end in self._matches(reading):
            counts[label, score] += 1
            if counts[label, score] <= _MAX_FINDINGS:
                yield Finding(label, score, self.name, reading.span(start, end))

    def _matches(self, reading: _Reading) -> Iterator[tuple[str, float, int, int]]:
        """Yield label, score, start and end of each match of a listed phrase or pattern in a reading."""
        words = _Words(reading.text)
        matches = [
            (self._words.listed[number], start, end)
            for number, start, end in self._words.automaton.find_matches_as_indexes(
                words.text, overlapping=True
            )
            if words.is_whole(start, end)
        ]
        allowed = _AllowedSpans(
            (start, end)
            for phrase, start, end in matches
            if phrase in self._words.allowed
            and not _BREAK.search(reading.span(*words.places(start, end)).text)
        )
        for phrase, start, end in matches:
            if phrase in self._words.phrases and not allowed.covers(start, end):
                for label, score in self._words.phrases[phrase].items():
                    yield label, score, *words.places(start, end)
        for label, pattern in self._words.patterns:
            for match in pattern.finditer(reading.text):
                if match.end() > match.start():
                    yield label, self._words.scores.get(label, 1.0), match.start(), match.end()


def _single_words(phrases: Iterable[str]) -> set[str]:
    words = {word for phrase in phrases for word in phrase.split()}
    return {
        word
        for word in words
        if not word.isdecimal() and len(word) >= _MIN_WORD_LENGTH - (not word.isascii())
    }


def _folded_forms(phrase: str, file: TomlFile) -> set[str]:
    """Return the folded forms of a phrase as written, in upper case and in title case.

    In some scripts they differ. Raises ``FilterError`` for a phrase without letters.
    """
    forms = {_Words(fold(form)).text for form in (phrase, phrase.upper(), phrase.title())}
    if "" in forms:
        raise FilterError(f'{file.path}: the entry "{phrase}" has no letter in it; remove it.')
    return forms


def _compile(pattern: str, file: TomlFile) -> Any:
    """Compile a pattern for lower-case text with RE2.

    RE2 runs in linear time and rejects patterns that cannot.
    """
    options = re2.Options()
    options.max_mem = _PATTERN_BYTES
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise FilterError(f'{file.path}: the pattern "{pattern}" is not valid for RE2: {error}.') from error


def _load(words: str | Path) -> tuple[TomlFile, _Lexicon]:
    packaged = {path.stem: path for path in _PACKAGED.glob("*.toml")}
    path = packaged.get(str(words), Path(words))
    if path.suffix != ".toml":
        raise FilterError(unknown_name("word list", str(words), packaged))
    file = TomlFile(path, FilterError, _MAX_BYTES)
    try:
        return file, _Lexicon.model_validate(file.data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise FilterError(f"{path}, line {file.line_of(first['loc'])}: {where}: {first['msg']}.") from error
