r"""Decoding: resolves escapes, markup, reversed text and camel case in a prompt.

``g&#117;n``, ``g<b>u</b>n``, ``%67un``, ``\u0067un``, "nug" after a right-to-left override and ``aGun`` are
all read as a gun. The decoded text is used for detection only; what is shown, logged or generated is the
original.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from safelight.types import Span

# The number of decoding passes, for text that was escaped repeatedly.
_MAX_PASSES = 3
_RIGHT_TO_LEFT, _POP, _POP_ISOLATE = "\u202e", "\u202c", "\u2069"
_EMBEDDINGS, _ISOLATES = "\u202a\u202b\u202d", "\u2066\u2067\u2068"
_DIRECTIONS = re.compile(f"[{_RIGHT_TO_LEFT}{_POP}{_POP_ISOLATE}{_EMBEDDINGS}{_ISOLATES}]")
_LINE = re.compile(r"[^\n\r\x1c-\x1e\x85\u2029]+|[\n\r\x1c-\x1e\x85\u2029]")

_HEX = "[0-9A-Fa-f]"
_BACKSLASH = rf"\\u\{{{_HEX}{{1,6}}\}}|\\u{_HEX}{{4}}|\\U{_HEX}{{8}}|\\x{_HEX}{{2}}"
_CODED = re.compile(
    rf"(?P<entity>&(?:\#[0-9]{{1,7}}|\#[xX]{_HEX}{{1,6}}|[A-Za-z][A-Za-z0-9]{{1,31}});?)"
    rf"|(?P<url>(?:%{_HEX}{{2}})+)"
    rf"|(?P<backslash>(?:{_BACKSLASH})+)"
    r"|(?P<tag></?(?P<name>[A-Za-z][A-Za-z0-9]*)(?:\s[^<>]*)?/?>|<!--[^<>]*-->)"
)
_DIGITS = re.compile(rf"{_HEX}+")
_BLOCKS = frozenset({"br", "div", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "p", "td", "th", "tr"})
_CAMEL = re.compile("(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# A fast check, so that prompts without any encoding cost next to nothing.
_MARK = re.compile(r"[&%<\\\u202e]|[a-z][A-Z]|[A-Z]{2}[a-z]")


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A decoded text, in which character ``i`` stands for ``original[starts[i] : ends[i]]``."""

    original: str
    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def span(self, start: int, end: int) -> Span:
        """Return the smallest span of the original that covers all of ``text[start:end]``."""
        left, right = min(self.starts[start:end]), max(self.ends[start:end])
        return Span(left, right, self.original[left:right])


def decode(original: str) -> Decoded:
    """Decode a prompt in linear time. The decoded text equals the original if nothing in it is encoded."""
    decoded = Decoded(original, original, range(len(original)), range(1, len(original) + 1))
    for _ in range(_MAX_PASSES):
        decoded = _substitute(decoded, _CODED, _decoded_text)
    if _RIGHT_TO_LEFT in decoded.text:
        decoded = _in_visual_order(decoded)
    return _substitute(decoded, _CAMEL, lambda _: " ")


def sources(prompt: str) -> Iterator[str | Decoded]:
    """Yield the prompt and, if it differs, the decoded prompt.

    Both are needed, because text that looks like markup may be meant literally.
    """
    yield prompt
    if _MARK.search(prompt) and (decoded := decode(prompt)).text != prompt:
        yield decoded


def _substitute(
    decoded: Decoded, pattern: re.Pattern[str], decode_match: Callable[[re.Match[str]], str]
) -> Decoded:
    """Replace every match of ``pattern`` by what ``decode_match`` returns for it."""
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    done = 0
    for match in pattern.finditer(decoded.text):
        replacement, (first, end) = decode_match(match), match.span()
        pieces += decoded.text[done:first], replacement
        starts += decoded.starts[done:first]
        ends += decoded.ends[done:first]
        # An empty match lies between two characters; text inserted there stands for neither of them.
        starts += [decoded.starts[first]] * len(replacement)
        ends += [decoded.ends[end - 1] if end > first else decoded.starts[first]] * len(replacement)
        done = end
    if not pieces:
        return decoded
    starts += decoded.starts[done:]
    ends += decoded.ends[done:]
    return Decoded(decoded.original, "".join(pieces) + decoded.text[done:], starts, ends)


def _decoded_text(match: re.Match[str]) -> str:
    kind = match.lastgroup if match["name"] is None else "tag"
    if kind == "entity":
        return html.unescape(match[0])
    if kind == "url":
        return unquote(match[0], errors="ignore")
    if kind == "backslash":
        return _unescape(match[0])
    return " " if (match["name"] or "").lower() in _BLOCKS else ""


def _unescape(escapes: str) -> str:
    r"""Return the text that a run of escapes such as ``\u0067`` stands for, with surrogate pairs joined."""
    codes = [int(code, 16) for code in _DIGITS.findall(escapes)]
    text = "".join(chr(code) for code in codes if code <= 0x10FFFF)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")


def _in_visual_order(decoded: Decoded) -> Decoded:
    """Put the characters of each line into their visual order."""
    lines = (line.span() for line in _LINE.finditer(decoded.text))
    order = [place for start, end in lines for place in _visual_order(decoded.text, start, end)]
    return Decoded(
        decoded.original,
        "".join(decoded.text[i] for i in order),
        [decoded.starts[i] for i in order],
        [decoded.ends[i] for i in order],
    )


def _visual_order(text: str, start: int, end: int) -> Iterator[int]:
    """Yield the indices of a line's characters from left to right, without directional controls."""
    nesting, done = _Nesting(), start
    for match in _DIRECTIONS.finditer(text, start, end):
        nesting.innermost.pieces.append(range(done, match.start()))
        done = match.end()
        nesting.change(match[0])
    nesting.innermost.pieces.append(range(done, end))
    return nesting.line.indices()


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """A part of a line that a directional control opened; ``reversed_`` if it is shown from right to left.

    Only an override reverses Latin letters; every other control leaves their order unchanged.
    """

    reversed_: bool = False
    pieces: list[range | _Run] = field(default_factory=list)

    def indices(self) -> Iterator[int]:
        """Yield the indices of the run's characters from left to right.

        This is iterative, because runs may be nested deeper than Python's recursion limit.
        """
        waiting = [iter(self._ordered())]
        while waiting:
            for piece in waiting[-1]:
                if isinstance(piece, _Run):
                    waiting.append(iter(piece._ordered()))
                    break
                yield from piece
            else:
                waiting.pop()

    def _ordered(self) -> list[range | _Run]:
        if not self.reversed_:
            return self.pieces
        return [piece if isinstance(piece, _Run) else piece[::-1] for piece in reversed(self.pieces)]


class _Nesting:
    """A stack of the runs of a line that are currently open."""

    def __init__(self) -> None:
        self.line = _Run()
        self._open = [self.line]
        self._isolates: list[int] = []

    @property
    def innermost(self) -> _Run:
        return self._open[-1]

    def change(self, control: str) -> None:
        if control == _POP:
            # This control can close neither the line itself nor an isolate.
            if len(self._open) - 1 > (self._isolates[-1] if self._isolates else 0):
                self._open.pop()
        elif control == _POP_ISOLATE:
            if self._isolates:
                del self._open[self._isolates.pop() :]
        else:
            self._begin(control)

    def _begin(self, control: str) -> None:
        if control in _ISOLATES:
            self._isolates.append(len(self._open))
        run = _Run(control == _RIGHT_TO_LEFT)
        self.innermost.pieces.append(run)
        self._open.append(run)
