"""Word lists: finds whole words and phrases, whatever their case, width or typographic form."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from safelight.errors import FilterError, no_such
from safelight.registry import register
from safelight.toml_file import TomlFile
from safelight.types import Finding, Span

_PACKAGED = Path(__file__).with_name("lexicons")
_WORD = re.compile(r"\w+")

Words = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False, min_length=1)]


class _Lexicon(BaseModel):
    """The file: labels with their words, and for labels that are not certain a score below 1."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: str
    labels: dict[str, Words]
    scores: dict[str, Annotated[float, Field(gt=0, le=1)]] = {}


@register("prompt_filter", "lexicon")
class Lexicon:
    """Reports the label of every listed word or phrase, with its place in the original prompt.

    ``words`` is a packaged list's name or a TOML file: ``version``, a table ``labels`` (label -> words)
    and an optional table ``scores`` (label -> score, 1 if not given). Raises ``FilterError`` if the
    list is not there or malformed.
    """

    def __init__(self, words: str | Path = "general", name: str = "lexicon") -> None:
        lexicon = _load(words)
        self.name = name
        self.version = f"{Path(words).stem} {lexicon.version}"
        self._scores = lexicon.scores
        self._labels: dict[tuple[str, ...], list[str]] = {}
        for label, phrases in lexicon.labels.items():
            for phrase in phrases:
                self._labels.setdefault(_folded_words(phrase, words), []).append(label)
        self._longest = max(map(len, self._labels), default=0)

    def find(self, prompts: Sequence[str]) -> list[list[Finding]]:
        return [list(self._findings(prompt)) for prompt in prompts]

    def _findings(self, prompt: str) -> Iterator[Finding]:
        folded = _Folded(prompt)
        matches = list(_WORD.finditer(folded.text))
        words = [match[0] for match in matches]
        for first in range(len(words)):
            for last in range(first, min(first + self._longest, len(words))):
                for label in self._labels.get(tuple(words[first : last + 1]), ()):
                    span = folded.span(matches[first].start(), matches[last].end(), prompt)
                    yield Finding(label, self._scores.get(label, 1.0), self.name, span)


class _Folded:
    """``text`` without case and typography (NFKC, casefold), and where each character came from.

    A letter and its combining marks fold together, since NFKC may make one character of them.
    """

    def __init__(self, original: str) -> None:
        pieces: list[str] = []
        self._origin: list[tuple[int, int]] = []
        for start, end in _clusters(original):
            piece = unicodedata.normalize(
                "NFKC", unicodedata.normalize("NFKC", original[start:end]).casefold()
            )
            pieces.append(piece)
            self._origin += [(start, end)] * len(piece)
        self.text = "".join(pieces)

    def span(self, start: int, end: int, original: str) -> Span:
        left, right = self._origin[start][0], self._origin[end - 1][1]
        return Span(left, right, original[left:right])


def _folded_words(phrase: str, source: str | Path) -> tuple[str, ...]:
    found = tuple(_WORD.findall(_Folded(phrase).text))
    if not found:
        raise FilterError(
            f'the word list "{source}" has an entry with no letter in it, "{phrase}"; remove it.'
        )
    return found


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for end in range(1, len(text) + 1):
        if end == len(text) or not unicodedata.combining(text[end]):
            yield start, end
            start = end


def _load(words: str | Path) -> _Lexicon:
    packaged = {path.stem: path for path in _PACKAGED.glob("*.toml")}
    path = packaged.get(str(words), Path(words))
    if path.suffix != ".toml":
        raise FilterError(no_such("word list", str(words), packaged))
    file = TomlFile(path, FilterError)
    try:
        return _Lexicon.model_validate(file.data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise FilterError(f"{path}, line {file.line_of(first['loc'])}: {where}: {first['msg']}.") from error
