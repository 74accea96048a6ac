"""Reads lists of hashes of known images: plain text, and ThreatExchange's CSV and JSON."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from safelight.errors import FilterError
from safelight.hashing.hash_index import HashIndex
from safelight.hashing.pdq import Pdq

# PDQ and SHA-256 hashes have the same length. A hash of that length without a type is used as both, since a
# collision between the two kinds does not occur.
_BYTES = {"pdq": 32, "sha256": 32, "md5": 16}
_HASH_PATTERN = re.compile(r"[0-9a-fA-F]{64}|[0-9a-fA-F]{32}")
_TYPES = {name: kind for kind in _BYTES for name in (kind, f"hash_{kind}")}

# The names of the columns in exports of ThreatExchange's command line, API and web pages.
_HASH = ("hash", "signal_str", "raw_indicator", "td_raw_indicator", "indicator")
_TYPE = ("type", "signal_type")
_ID = ("id", "path")
_OPINION_KEYS = frozenset({"category", "status", "td_status"})
_BENIGN = frozenset({"NEGATIVE_CLASS", "NON_MALICIOUS"})

_Record = Mapping[str, Any]


class Entry(NamedTuple):
    """One hash of a list; ``kind`` is "pdq", "sha256" or "md5"."""

    kind: str
    digest: bytes
    id: str


class HashList:
    """The hashes of one file; immutable. ``fingerprint`` identifies its contents."""

    def __init__(self, entries: Iterable[Entry], fingerprint: str = "") -> None:
        hashes = bytearray()
        self.fingerprint = fingerprint
        self._ids: list[str] = []
        self._exact: dict[bytes, str] = {}
        for kind, digest, name in entries:
            if kind == "pdq":
                hashes += digest
                self._ids.append(name)
            else:
                self._exact.setdefault(digest, name)
        self._index = HashIndex(np.frombuffer(hashes, np.uint8).reshape(-1, _BYTES["pdq"]))

    def __len__(self) -> int:
        return len(self._ids) + len(self._exact)

    @classmethod
    def read(cls, path: Path) -> HashList:
        """Read a list from a file. Raises ``FilterError``, naming file and line, if it is not valid."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise FilterError(f"{path} cannot be read: {error.strerror}; give a list of hashes.") from error
        hashes = cls(read_entries(path, data), hashlib.sha256(data).hexdigest())
        if not hashes:
            raise FilterError(f"{path} contains no hashes; add some or remove the list.")
        return hashes

    def exact(self, digests: Sequence[bytes]) -> str | None:
        """Return the id of the entry with one of these SHA-256 or MD5 digests of a file, or None."""
        return next((self._exact[digest] for digest in digests if digest in self._exact), None)

    def closest(self, pdq: Pdq, distance: int) -> tuple[str, int] | None:
        """Return the id and distance of the entry closest to the image in any orientation, or None."""
        match = self._index.closest(pdq.orientations, distance)
        return match and (self._ids[match[0]], match[1])


def read_entries(path: Path, data: bytes) -> Iterator[Entry]:
    """Yield the entries of a list in the format of its suffix: .csv, .json, .jsonl, or else plain text.

    Entries that members of ThreatExchange marked as harmless are left out. Raises ``FilterError`` for a line
    that is not a valid entry.
    """
    text = _decode(path, data)
    records = {".csv": _csv, ".json": _json, ".jsonl": _jsonl}.get(path.suffix.lower(), _plain_text)
    place = "line"
    try:
        for place, record in records(text):
            if _OPINION_KEYS.isdisjoint(record) or not _is_harmless(record):
                yield from _entries(record, place)
    except _BadEntryError as error:
        raise FilterError(f"{path}, {error.place or place}: {error}") from error


class _BadEntryError(Exception):
    """An invalid entry; ``place`` is its position if it is not the entry read last."""

    def __init__(self, sentence: str, place: str = "") -> None:
        super().__init__(sentence)
        self.place = place


def _decode(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FilterError(f"{path}, line {line}: this is not UTF-8 text; save it as such.") from error


def _plain_text(text: str) -> Iterator[tuple[str, _Record]]:
    """Yield the lines ``[type] hash [id] [# comment]``, which include the formats of sha256sum and md5sum."""
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        words = f" {line}".partition(" #")[0].split(maxsplit=1)
        if not words:
            continue
        kind = words.pop(0) if words[0].lower() in _TYPES else None
        hashed, *name = " ".join(words).split(maxsplit=1) or [""]
        yield f"line {number}", {"type": kind, "hash": hashed, "id": "".join(name).strip()}


def _csv(text: str) -> Iterator[tuple[str, _Record]]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if text and not {*_HASH, *_BYTES}.intersection(rows.fieldnames or ()):
            known = ", ".join((*_HASH, *_BYTES))
            raise _BadEntryError(f"there is no column of hashes; name it one of {known}.", "line 1")
        for row in rows:
            yield f"line {rows.line_num}", row
    except csv.Error as error:
        raise _BadEntryError(f"this is not valid CSV: {error}.", f"line {rows.reader.line_num}") from error


def _jsonl(text: str) -> Iterator[tuple[str, _Record]]:
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip():
            yield f"line {number}", _object(_parsed(line, f"line {number}"), f"line {number}")


def _json(text: str) -> Iterator[tuple[str, _Record]]:
    """Yield the entries of a JSON list, or of a ThreatExchange response with a list under "data"."""
    parsed = _parsed(text)
    listed = parsed.get("data") if isinstance(parsed, dict) else parsed
    if not isinstance(listed, list):
        raise _BadEntryError('this is neither a list of entries nor an object with one in "data".', "line 1")
    for number, record in enumerate(listed, 1):
        yield f"entry {number}", _object(record, f"entry {number}")


def _parsed(text: str, place: str = "") -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line = f"line {getattr(error, 'lineno', 1)}"
        raise _BadEntryError("this is not valid JSON; correct it.", place or line) from error


def _object(record: Any, place: str) -> _Record:
    if not isinstance(record, dict):
        raise _BadEntryError("this is not a JSON object with a hash.", place)
    return record


def _is_harmless(record: _Record) -> bool:
    return any(str(record.get(key)).upper() in _BENIGN for key in _OPINION_KEYS)


def _entries(record: _Record, place: str) -> Iterator[Entry]:
    """Yield one entry for each hash of the record; without an id, the entry is named after its position."""
    name = str(_first(record, _ID) or place)
    hashed = _first(record, _HASH)
    if hashed is not None:
        given = [(_first(record, _TYPE), hashed)]
    else:
        given = [(kind, record[kind]) for kind in _BYTES if record.get(kind)]
    if not given:
        raise _BadEntryError("there is no hash; add one or remove the line.")
    for named, digits in given:
        digest = _digest(digits)
        for kind in _kinds(named, digest):
            yield Entry(kind, digest, name)


def _first(record: _Record, keys: Sequence[str]) -> Any:
    for key in keys:
        if (value := record.get(key)) not in (None, ""):
            return value
    return None


def _digest(digits: Any) -> bytes:
    hashed = str(digits).strip()
    if not _HASH_PATTERN.fullmatch(hashed):
        raise _BadEntryError(f'"{hashed[:80]}" is not a hash of 64 or 32 hexadecimal digits; correct it.')
    return bytes.fromhex(hashed)


def _kinds(named: Any, digest: bytes) -> tuple[str, ...]:
    """Return the kinds that a hash may have: the given type, or all kinds of its length."""
    if named is None:
        return tuple(kind for kind, size in _BYTES.items() if size == len(digest))
    kind = _TYPES.get(str(named).lower())
    if kind is None:
        raise _BadEntryError(f'"{named}" hashes are not supported; export only pdq, sha256 and md5.')
    if len(digest) != _BYTES[kind]:
        raise _BadEntryError(f"a {kind} hash has {2 * _BYTES[kind]} hexadecimal digits; correct it.")
    return (kind,)
