"""Lists of known images: plain hex, and ThreatExchange's CSV and JSON."""

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

# PDQ and SHA-256 are of one length. What does not say which it is counts as both: no image has the one
# that was meant for the other.
_BYTES = {"pdq": 32, "sha256": 32, "md5": 16}
_HASHED = re.compile(r"[0-9a-fA-F]{64}|[0-9a-fA-F]{32}")
_TYPES = {name: kind for kind in _BYTES for name in (kind, f"hash_{kind}")}

# What ThreatExchange's command line, its interface for programs and its web pages call the columns.
_HASH = ("hash", "signal_str", "raw_indicator", "td_raw_indicator", "indicator")
_TYPE = ("type", "signal_type")
_ID = ("id", "path")
_OPINION = frozenset({"category", "status", "td_status"})
_HARMLESS = frozenset({"NEGATIVE_CLASS", "NON_MALICIOUS"})

_Record = Mapping[str, Any]


class Entry(NamedTuple):
    """One hash of a list; ``kind`` is "pdq", "sha256" or "md5"."""

    kind: str
    digest: bytes
    id: str


class HashList:
    """The hashes of one file; never changes. ``fingerprint`` tells its contents from others'."""

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
        """The list in a file. Raises ``FilterError``, naming file and line, for anything but a good list."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise FilterError(f"{path} cannot be read: {error.strerror}; give a list of hashes.") from error
        hashes = cls(read_entries(path, data), hashlib.sha256(data).hexdigest())
        if not hashes:
            raise FilterError(f"{path} has no hash of a known image; add some or remove the list.")
        return hashes

    def exact(self, digests: Sequence[bytes]) -> str | None:
        """The id of the entry with one of these SHA-256 or MD5 digests of a file."""
        return next((self._exact[digest] for digest in digests if digest in self._exact), None)

    def closest(self, pdq: Pdq, distance: int) -> tuple[str, int] | None:
        """The id of the entry that looks most like the image in any orientation, and its distance."""
        match = self._index.closest(pdq.orientations, distance)
        return match and (self._ids[match[0]], match[1])


def read_entries(path: Path, data: bytes) -> Iterator[Entry]:
    """The entries of a list whose format the end of its name tells: .csv, .json, .jsonl, or plain text.

    Entries that ThreatExchange's members call harmless are left out. Raises ``FilterError`` for a line that
    is not an entry.
    """
    text = _decoded(path, data)
    records = {".csv": _csv, ".json": _json, ".jsonl": _jsonl}.get(path.suffix.lower(), _plain)
    place = "line"
    try:
        for place, record in records(text):
            if _OPINION.isdisjoint(record) or not _is_harmless(record):
                yield from _entries(record, place)
    except _BadEntryError as error:
        raise FilterError(f"{path}, {error.place or place}: {error}") from error


class _BadEntryError(Exception):
    """``place`` is where, if it is not the entry read last."""

    def __init__(self, sentence: str, place: str = "") -> None:
        super().__init__(sentence)
        self.place = place


def _decoded(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FilterError(f"{path}, line {line}: this is not UTF-8 text; save it as such.") from error


def _plain(text: str) -> Iterator[tuple[str, _Record]]:
    """``[type] hash [id] [# comment]``, as sha256sum and md5sum write them too."""
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
            raise _BadEntryError(f"no column has hashes; name it one of {known}.", "line 1")
        for row in rows:
            yield f"line {rows.line_num}", row
    except csv.Error as error:
        raise _BadEntryError(f"this is not valid CSV: {error}.", f"line {rows.reader.line_num}") from error


def _jsonl(text: str) -> Iterator[tuple[str, _Record]]:
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip():
            yield f"line {number}", _object(_parsed(line, f"line {number}"), f"line {number}")


def _json(text: str) -> Iterator[tuple[str, _Record]]:
    """A list of entries, or an answer of ThreatExchange, which has one under "data"."""
    parsed = _parsed(text)
    listed = parsed.get("data") if isinstance(parsed, dict) else parsed
    if not isinstance(listed, list):
        raise _BadEntryError('this is not a list of entries, nor has it one under "data".', "line 1")
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
        raise _BadEntryError("this is not an object with a hash in it.", place)
    return record


def _is_harmless(record: _Record) -> bool:
    return any(str(record.get(key)).upper() in _HARMLESS for key in _OPINION)


def _entries(record: _Record, place: str) -> Iterator[Entry]:
    """One entry for each hash of the record; what has no id is called after its place."""
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
    if not _HASHED.fullmatch(hashed):
        raise _BadEntryError(f'"{hashed[:80]}" is not a hash of 64 or 32 hexadecimal digits; correct it.')
    return bytes.fromhex(hashed)


def _kinds(named: Any, digest: bytes) -> tuple[str, ...]:
    """What kinds of hash it may be: without a type, all of its length."""
    if named is None:
        return tuple(kind for kind, size in _BYTES.items() if size == len(digest))
    kind = _TYPES.get(str(named).lower())
    if kind is None:
        raise _BadEntryError(f'"{named}" hashes are of no use for images; export pdq, sha256 and md5 only.')
    if len(digest) != _BYTES[kind]:
        raise _BadEntryError(f"a {kind} hash has {2 * _BYTES[kind]} hexadecimal digits; correct it.")
    return (kind,)
