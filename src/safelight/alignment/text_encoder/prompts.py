"""Prompts to train on: unsafe ones, safe ones, and pairs of an unsafe prompt and its safe counterpart."""

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
    """``unsafe`` and ``safe`` prompts, and ``pairs`` of an unsafe prompt and its safe counterpart.

    Prompts that differ only in spacing or case count once. Raises ``RequestError`` if a prompt is both unsafe
    and safe, or if there are no unsafe or no safe prompts.
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
            raise RequestError(f"a prompt ({digest(both)}) is listed as unsafe and as safe; list it once.")
        for kind, prompts in (("unsafe", self.harmful), ("safe", self.harmless)):
            if not prompts:
                raise RequestError(f"there are no {kind} prompts to train on; give some.")

    @cached_property
    def harmful(self) -> tuple[str, ...]:
        """Return all unsafe prompts, including those of the pairs."""
        return _once((*self.unsafe, *(unsafe for unsafe, _ in self.pairs)))

    @cached_property
    def harmless(self) -> tuple[str, ...]:
        """Return all safe prompts, including those of the pairs."""
        return _once((*self.safe, *(safe for _, safe in self.pairs)))

    @cached_property
    def counterparts(self) -> Mapping[str, str]:
        """Return the safe counterpart of each unsafe prompt in a pair."""
        return dict(reversed(self.pairs))

    def check_apart(self, others: Collection[str]) -> None:
        """Raise ``RequestError`` if any of ``others``, which are held out for evaluation, is trained on."""
        kept = {_same(each) for each in others}
        if both := [each for each in (*self.harmful, *self.harmless) if _same(each) in kept]:
            raise RequestError(
                f"{len(both)} prompts ({digest(both[0])} …) are both trained on and held out; remove them."
            )

    def about(self) -> Mapping[str, Any]:
        """Return the numbers of prompts and a hash of all of them, as prompts may be personal data."""
        counts = {"unsafe": len(self.unsafe), "safe": len(self.safe), "pairs": len(self.pairs)}
        return {**counts, "sha256": json_sha256([self.unsafe, self.safe, self.pairs])}


def digest(prompt: str) -> str:
    """Return the beginning of a prompt's SHA-256 hash, which identifies it without showing its text."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:12]


def _same(prompt: str) -> str:
    return " ".join(prompt.casefold().split())


def _once(prompts: Sequence[str]) -> tuple[str, ...]:
    first: dict[str, str] = {}
    for prompt in prompts:
        if same := _same(prompt):
            first.setdefault(same, prompt)
    return tuple(first.values())
