"""What a caller asks for, checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from safelight.errors import PromptError, RequestError

PROMPT_LIMIT = 100_000

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Request:
    """``n`` pictures for each prompt; picture ``i`` of all is made with ``seed + i``."""

    prompts: tuple[str, ...]
    n: int
    seed: int | None

    @classmethod
    def of(
        cls, prompt: str | Sequence[str], n: int = 1, seed: int | None = None, limit: int = PROMPT_LIMIT
    ) -> Request:
        """Raises ``PromptError`` or ``RequestError`` for what cannot be drawn."""
        prompts = (prompt,) if isinstance(prompt, str) else checked_batch(prompt)
        for text in prompts:
            if problem := prompt_problem(text, limit):
                raise PromptError(problem)
        if not _is_int(n) or n < 1:
            raise RequestError(f"n is the number of pictures for each prompt, at least 1, not {n!r}.")
        if seed is not None and (not _is_int(seed) or not 0 <= seed <= _LARGEST_SEED - n * len(prompts)):
            raise RequestError(f"a seed is a whole number from 0 to 2^63, not {seed!r}.")
        return cls(prompts, n, seed)


def checked_batch(prompts: Sequence[str]) -> tuple[str, ...]:
    """The prompts as a tuple; raises ``PromptError`` unless it is a list with something in it."""
    if isinstance(prompts, str) or not isinstance(prompts, Sequence):
        raise PromptError(f"give a list of prompts, not {type(prompts).__name__}.")
    if not prompts:
        raise PromptError("the list of prompts is empty; give at least one.")
    return tuple(prompts)


def prompt_problem(prompt: object, limit: int = PROMPT_LIMIT) -> str | None:
    """Why ``prompt`` can be neither screened nor drawn, as a sentence; None if it can."""
    if not isinstance(prompt, str):
        return f"a prompt is text, not {type(prompt).__name__}."
    if not prompt.strip():
        return "the prompt is empty; say what to draw."
    if len(prompt) > limit:
        return f"the prompt has {len(prompt)} characters; shorten it to {limit}."
    if found := _UNPRINTABLE.search(prompt):
        return f"the prompt has the control character U+{ord(found[0]):04X} at {found.start()}; remove it."
    if found := _SURROGATE.search(prompt):
        return f"the prompt is not valid text at {found.start()} (half a character); remove it."
    return None


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# The most prompts, images or pairs that one call screens.
ITEM_LIMIT = 1000


def check_count(items: Sequence[object], what: str) -> None:
    """Raise ``RequestError`` for more ``items`` than one call may have."""
    if len(items) > ITEM_LIMIT:
        raise RequestError(f"a call takes at most {ITEM_LIMIT:,} {what}, not {len(items):,}; make several.")
