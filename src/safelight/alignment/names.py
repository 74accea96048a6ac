"""The names that a concept goes by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from safelight.errors import RequestError

_TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")


def names_of(concept: str) -> list[str]:
    """Those between the commas."""
    return [name.strip() for name in concept.split(",") if name.strip()]


def check_names(concepts: Iterable[str], pipe: Any) -> None:
    """Raises ``RequestError`` for a name of which ``pipe`` reads nothing, or something else."""
    tokenizers = [each for each in (getattr(pipe, name, None) for name in _TOKENIZERS) if each is not None]
    for name in (name for concept in concepts for name in names_of(concept)):
        for tokenizer in tokenizers:
            tokens = tokenizer.tokenize(name)
            if not tokens:
                raise RequestError(f'the model reads nothing in "{name}"; name a concept in words.')
            # Where a tokenizer has no token of its own for what it cannot read, it reads everything.
            unknown = getattr(tokenizer, "unk_token", None)
            if unknown in tokens and unknown != getattr(tokenizer, "eos_token", None):
                raise RequestError(f'the model cannot read all of "{name}"; write it in other letters.')
