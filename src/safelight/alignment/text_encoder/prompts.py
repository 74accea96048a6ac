"""Prompts to train on: unsafe ones, safe ones, and pairs of an unsafe one and what is safe in its place."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from safelight.alignment.delta.delta import json_sha256
from safelight.errors import RequestError


@dataclass(frozen=True)
class Prompts:
    """``unsafe`` and ``safe`` ones, and ``pairs`` of an unsafe one and its safe counterpart.

    Each counts once, however it is spaced and whatever its case. Raises ``RequestError`` if one is unsafe and
    safe, or there is none of a kind.
    """

    unsafe: tuple[str, ...]
    safe: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "unsafe", _once(self.unsafe))
        object.__setattr__(self, "safe", _once(self.safe))
        pairs = {(_same(one), _same(other)): (one, other) for one, other in reversed(self.pairs)}
        object.__setattr__(self, "pairs", tuple(reversed(pairs.values())))
        unsafe = {_same(each) for each in self.harmful}
        if both := next((each for each in self.harmless if _same(each) in unsafe), None):
            raise RequestError(f"a prompt ({digest(both)}) is unsafe and safe; list it once.")
        for kind, prompts in (("unsafe", self.harmful), ("safe", self.harmless)):
            if not prompts:
                raise RequestError(f"there are no {kind} prompts to train on; give some.")

    @cached_property
    def harmful(self) -> tuple[str, ...]:
        """All unsafe ones, with those of the pairs."""
        return _once((*self.unsafe, *(unsafe for unsafe, _ in self.pairs)))

    @cached_property
    def harmless(self) -> tuple[str, ...]:
        """All safe ones, with those of the pairs."""
        return _once((*self.safe, *(safe for _, safe in self.pairs)))

    @cached_property
    def counterparts(self) -> Mapping[str, str]:
        """Of unsafe prompts in pairs, what is safe in their place."""
        return dict(reversed(self.pairs))

    def check_apart(self, others: Collection[str]) -> None:
        """Raises ``RequestError`` if some of these are among ``others``, with which what was trained on these
        is to be measured."""
        kept = {_same(each) for each in others}
        if both := [each for each in (*self.harmful, *self.harmless) if _same(each) in kept]:
            raise RequestError(
                f"{len(both)} prompts ({digest(both[0])} …) are trained on and measured with; take them out."
            )

    def about(self) -> Mapping[str, Any]:
        """How many there are, and the hash of all: prompts are personal."""
        counts = {"unsafe": len(self.unsafe), "safe": len(self.safe), "pairs": len(self.pairs)}
        return {**counts, "sha256": json_sha256([self.unsafe, self.safe, self.pairs])}


def digest(prompt: str) -> str:
    """What stands for a prompt where it is not to be shown."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:12]


def _same(prompt: str) -> str:
    return " ".join(prompt.casefold().split())


def _once(prompts: Sequence[str]) -> tuple[str, ...]:
    first: dict[str, str] = {}
    for prompt in prompts:
        if same := _same(prompt):
            first.setdefault(same, prompt)
    return tuple(first.values())
