"""The names that a concept goes by."""

from __future__ import annotations

from typing import Any

from safelight.errors import RequestError


def names_of(concept: str) -> list[str]:
    """Those between the commas."""
    return [name.strip() for name in concept.split(",") if name.strip()]


def check_names(names: list[str], tokenizer: Any) -> None:
    """Raises ``RequestError`` for a name of which the model reads nothing, or something else."""
    for name in names:
        tokens = tokenizer.tokenize(name)
        if not tokens:
            raise RequestError(f'the model reads nothing in "{name}"; name a concept in words.')
        # Where a tokenizer has no token of its own for what it cannot read, it reads everything.
        unknown = getattr(tokenizer, "unk_token", None)
        if unknown in tokens and unknown != getattr(tokenizer, "eos_token", None):
            raise RequestError(f'the model cannot read all of "{name}"; write it in other letters.')
