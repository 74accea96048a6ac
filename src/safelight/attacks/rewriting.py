"""Attacks that ask the same in other words or letters, without knowing anything of the system."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from safelight.protocols import Judge, System
from safelight.types import Answer


class RewritingAttack(ABC):
    """Asks the system each prompt as ``rewrite`` makes it, once.

    The same prompt with the same seed is always rewritten to the same.
    """

    name: str

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"attack": self.name}

    @abstractmethod
    def rewrite(self, prompt: str, rng: random.Random) -> str:
        """Return another prompt that asks for the same."""

    def against(self, system: System, judge: Judge) -> System:
        return RewrittenSystem(self, system)


class RewrittenSystem:
    """A system whose prompts are rewritten by an attack before it is asked."""

    def __init__(self, attack: RewritingAttack, system: System) -> None:
        self._attack = attack
        self._system = system
        self.name = f"{system.name} attacked by {attack.name}"
        self.settings: Mapping[str, Any] = {**system.settings, **attack.settings}

    def with_arguments(self, **arguments: Any) -> RewrittenSystem:
        """Return the same attack on the system with other arguments; it must be one that takes some."""
        return RewrittenSystem(self._attack, self._system.with_arguments(**arguments))

    def answer(self, prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[Answer]:
        rewritten = [
            self._attack.rewrite(prompt, random.Random(f"{seed} {prompt}"))
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return self._system.answer(rewritten, seeds)
