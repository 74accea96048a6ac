"""JSON objects whose keys are unique: of two values under one key, readers differ in which of them counts."""

from __future__ import annotations

from typing import Any


class DuplicateKeyError(ValueError):
    """An object of JSON has the same key twice."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The ``object_pairs_hook`` of ``json`` that raises ``DuplicateKeyError``."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise DuplicateKeyError("an object has the same key twice")
    return members
