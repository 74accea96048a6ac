"""Filters with a constant result, always harmful or always benign, for tests and for trying a policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from safelight.registry import KINDS, register
from safelight.types import Finding

_FILTER_KINDS = [kind for kind in KINDS if kind.endswith("_filter")]


@dataclass(frozen=True)
class Always:
    """Reports ``label`` with ``score`` for every item."""

    name: str = "always"
    label: str = "violence"
    score: float = 1.0
    version: str = "1"

    def find(self, items: Sequence[Any]) -> list[list[Finding]]:
        return [[Finding(self.label, self.score, self.name)] for _ in items]


@dataclass(frozen=True)
class Never:
    """Reports no findings for any item."""

    name: str = "never"
    version: str = "1"
    labels: frozenset[str] = frozenset()

    def find(self, items: Sequence[Any]) -> list[list[Finding]]:
        return [[] for _ in items]


for _kind in _FILTER_KINDS:
    register(_kind, "always")(Always)
    register(_kind, "never")(Never)
