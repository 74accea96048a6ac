"""Black-box attacks that rewrite each prompt once, with other words or another spelling."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from safelight.protocols import Judge, System
from safelight.types import Answer


class RewritingAttack(ABC):
    """The base class of attacks that send each prompt to the system once, rewritten by ``rewrite``.

    The same prompt and seed always give the same rewritten prompt.
    """

    name: str

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"attack": self.name}

    @abstractmethod
    def rewrite(self, prompt: str, rng: random.Random) -> str:
        """Return another prompt that asks for the same image."""

    def against(self, system: System, judge: Judge) -> System:
        return RewrittenSystem(self, system)


class RewrittenSystem:
    """A system whose prompts are rewritten by an attack before they reach it."""

    def __init__(self, attack: RewritingAttack, system: System) -> None:
        self._attack = attack
        self._system = system
        self.name = f"{system.name} attacked by {attack.name}"
        self.settings: Mapping[str, Any] = {**system.settings, **attack.settings}

    def with_arguments(self, **arguments: Any) -> RewrittenSystem:
        """Return the attacked system with other arguments; the system must accept arguments."""
        return RewrittenSystem(self._attack, self._system.with_arguments(**arguments))

    def answer(self, prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[Answer]:
        rewritten = [
            self._attack.rewrite(prompt, random.Random(f"{seed} {prompt}"))
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return self._system.answer(rewritten, seeds)
