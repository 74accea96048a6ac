"""JSON objects with unique keys: parsers disagree about which of two values under one key counts."""

from __future__ import annotations

from typing import Any


class DuplicateKeyError(ValueError):
    """A JSON object has the same key twice."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a dictionary; an ``object_pairs_hook`` for ``json``.

    Raises ``DuplicateKeyError`` if a key occurs twice.
    """
    members = dict(pairs)
    if len(members) < len(pairs):
        raise DuplicateKeyError("an object has the same key twice")
    return members
