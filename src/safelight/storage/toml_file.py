"""TOML files with the line number of each key, for error messages.

The parser of the standard library is slow on some inputs and raises unexpected errors on others. Before a
file is parsed, limits are therefore checked on its size, the number of parts of dotted keys, the nesting of
arrays and tables, and the length of numbers and bare keys.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safelight.errors import SafelightError, first_line
from safelight.storage.packaged_files import check_bytes

MOST_BYTES = 1 << 18
# The most parts of a dotted key, and the deepest nesting of arrays and tables in a value.
_DEEPEST = 8
# Python rejects longer numbers, and there is no use for longer bare keys.
_LONGEST_WORD = 256

_TOKEN = re.compile(
    r'''(?P<string>"""(?:[^"\\]++|\\.|"(?!""))*+"{3,5}|\'\'\'(?:[^']++|'(?!''))*+'{3,5}'''
    r"""|"(?:[^"\\\n]++|\\.)*+"|'[^'\n]*')"""
    r"""|(?P<unfinished>["'])|(?P<comment>\#[^\n]*)|(?P<word>[\w-]+)|(?P<sign>[][{}=.]|\n+)""",
    re.DOTALL,
)

KeyPath = tuple[str | int, ...]


class TomlFile:
    """A parsed TOML file: ``data`` is its content and ``text`` its source.

    Raises ``error`` if the file cannot be read, is too large, or is not TOML.
    """

    def __init__(self, path: Path, error: type[SafelightError], most_bytes: int = MOST_BYTES) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                read = file.read(most_bytes + 1)
            self.text = "" if len(read) > most_bytes else read.decode("utf-8")
        except FileNotFoundError:
            raise error(f"there is no file {path}; give a file that exists.") from None
        except (OSError, ValueError) as problem:
            raise error(f"{path} cannot be read as a text file: {problem}.") from problem
        if len(read) > most_bytes:
            raise error(f"{path} is larger than {most_bytes >> 10} KiB; give a smaller file.")
        check_bytes(path, read, error)
        self._lines = _lines(path, self.text, error)
        self.data = _parsed(path, self.text, error)

    def line_of(self, key_path: KeyPath) -> int:
        """Return the line (from 1) of the key at ``key_path``, or of the innermost table that contains it."""
        depths = range(len(key_path), 0, -1)
        return next((self._lines[key_path[:n]] for n in depths if key_path[:n] in self._lines), 1)


def _parsed(path: Path, text: str, error: type[SafelightError]) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as problem:  # a TOMLDecodeError is a ValueError
        raise error(f"{path} is not valid TOML: {first_line(problem)}; correct the file.") from problem


def _lines(path: Path, text: str, error: type[SafelightError]) -> dict[KeyPath, int]:
    """Return the line on which each table and key first occurs. Raises ``error`` if a limit is exceeded."""
    lines: dict[KeyPath, int] = {}
    arrays: dict[KeyPath, int] = {}
    table: KeyPath = ()
    try:
        for key in _Scan(text):
            if key.brackets:
                table = _table_path(key.parts, arrays, key.brackets > 1)
            where = table if key.brackets else (*table, *key.parts)
            while where and where not in lines:
                lines[where] = key.line
                where = where[:-1]
    except _TooMuchError as problem:
        raise error(f"{path}, line {problem.line}: {problem}.") from None
    return lines


def _table_path(parts: tuple[str, ...], arrays: dict[KeyPath, int], appends: bool) -> KeyPath:
    """Return the path of the table that a header opens.

    Tables of an array (``[[array]]``) are numbered: the path is that of the last one, or of a new one if the
    header ``appends`` it.
    """
    where: KeyPath = ()
    for number, part in enumerate(parts, 1):
        where = (*where, part)
        if appends and number == len(parts):
            arrays[where] = arrays.get(where, -1) + 1
        if where in arrays:
            where = (*where, arrays[where])
    return where


class _TooMuchError(Exception):
    """A limit is exceeded on ``line``."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line


@dataclass(frozen=True, slots=True)
class _Key:
    """A dotted key, or the name in a header with one or two ``brackets``."""

    line: int
    parts: tuple[str, ...]
    brackets: int = 0


@dataclass
class _Scan:
    """Yields the keys of a text in one pass, which may be invalid, up to where a parser would stop.

    A statement begins with the name of a table or a key, and ends at a line break outside of brackets.
    """

    text: str
    line: int = 1
    _name: list[str] = field(default_factory=list)
    _goes_on: bool = False
    # The number of brackets of a header; None once the name of the statement is complete.
    _header: int | None = 0
    _depth: int = 0

    def __iter__(self) -> Iterator[_Key]:
        for match in _TOKEN.finditer(self.text):
            kind, token = match.lastgroup, match[0]
            if kind == "unfinished":
                return
            if kind in ("string", "word"):
                self._read_part(token, kind == "word")
            elif kind != "comment":
                yield from self._read_sign(token)
            self.line += token.count("\n")

    def _read_part(self, token: str, is_bare: bool) -> None:
        if is_bare and len(token) > _LONGEST_WORD:
            raise _TooMuchError(self.line, f"a number or a bare key has more than {_LONGEST_WORD} characters")
        self._name = [*self._name, token] if self._goes_on else [token]
        self._goes_on = False
        if len(self._name) > _DEEPEST:
            raise _TooMuchError(self.line, f"a dotted key has more than {_DEEPEST} parts")

    def _read_sign(self, sign: str) -> Iterator[_Key]:
        self._goes_on = sign == "."
        if self._header is not None and sign in ("=", "]"):
            yield _Key(self.line, tuple(map(_unquoted, self._name)), self._header)
            self._header = None
        elif sign == "[" and self._header is not None:
            self._header += 1
        elif sign in ("[", "{"):
            self._depth += 1
            if self._depth > _DEEPEST:
                raise _TooMuchError(self.line, f"lists and tables are nested more than {_DEEPEST} deep")
        elif sign in ("]", "}"):
            self._depth = max(0, self._depth - 1)
        elif sign[0] == "\n" and not self._depth:
            self._header = 0


def _unquoted(part: str) -> str:
    if part[0] not in "\"'":
        return part
    if "\\" not in part or part[0] == "'":
        return part[1:-1]
    try:
        return str(tomllib.loads(f"key = {part}")["key"])
    except ValueError:
        return part
