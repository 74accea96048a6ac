"""Reading captions from text, JSON and tables of data sets."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

# The most common first; names are compared in lower case.
CAPTIONS = ("caption", "text", "prompt", "txt", "description")
PATHS = ("file_name", "filename", "file", "path", "image", "image_path", "picture")
_LONGEST = 1 << 20
_WORD = re.compile(r"\w+")
# Words shorter than this are in most sentences, and the following in our own messages.
_MIN_LETTERS, _OUR_WORDS = 4, {"this", "that", "with", "filter", "failed", "blocked"}


class CaptionError(ValueError):
    """A caption cannot be read; the message is a sentence about the sample."""


def from_text(encoded: bytes) -> str:
    """Return the caption in a ``.txt`` file. Raises ``CaptionError``."""
    if len(encoded) > _LONGEST:
        raise CaptionError("its caption is too long.")
    try:
        return encoded.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise CaptionError("its caption is not UTF-8 text.") from None


def from_json(encoded: bytes) -> str | None:
    """Return the caption in a ``.json`` file, None if it has none. Raises ``CaptionError``."""
    text = from_text(encoded)
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        raise CaptionError("its JSON is damaged.") from None
    return of_row(row) if isinstance(row, dict) else None


def of_row(row: Mapping[str, Any], column: str | None = None) -> str | None:
    """Return the caption in a row of a table. Raises ``CaptionError`` for one that is not text."""
    name = column or column_of(row, CAPTIONS)
    value = row.get(name) if name else None
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return from_text(value)
    raise CaptionError("its caption is not text.")


def column_of(names: Any, wanted: tuple[str, ...]) -> str | None:
    """Return the first of the ``wanted`` names that is among ``names``, in any case."""
    by_small = {str(name).lower(): str(name) for name in names}
    return next((by_small[name] for name in wanted if name in by_small), None)


def quotes(sentence: str, caption: str) -> bool:
    """Return whether the sentence may quote the caption: it has one of its longer words, or all of it."""
    words, quoted = (_WORD.findall(each.lower()) for each in (caption, sentence))
    distinctive = {word for word in words if len(word) >= _MIN_LETTERS} - _OUR_WORDS
    return bool(distinctive & set(quoted)) or (
        bool(words) and f" {' '.join(words)} " in f" {' '.join(quoted)} "
    )


def rows_of(name: str, encoded: bytes) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a table of captions in CSV, JSON or JSONL, without damaged rows.

    Raises ``CaptionError`` for a table that is not UTF-8 text.
    """
    try:
        whole = encoded.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CaptionError(f"{name} is not UTF-8 text; save it again as UTF-8.") from None
    if name.endswith(".csv"):
        csv.field_size_limit(_LONGEST)
        yield from csv.DictReader(io.StringIO(whole, newline=""))
    elif name.endswith(".json"):
        yield from _of_json(name, whole)
    else:
        lines = (line for line in whole.splitlines() if line.strip())
        yield from (row for line in lines if isinstance(row := _loaded(line), dict))


def _of_json(name: str, whole: str) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a list of objects, or of an object with a caption for each path."""
    data = _loaded(whole)
    if isinstance(data, dict):
        data = [{"path": path, "caption": caption} for path, caption in data.items()]
    if not isinstance(data, list):
        raise CaptionError(f"{name} is not a table of captions; give a list of objects.")
    yield from (row for row in data if isinstance(row, dict))


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
