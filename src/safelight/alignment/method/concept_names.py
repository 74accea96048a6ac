"""The names that a concept goes by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from safelight.errors import RequestError

_TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")


def names_of(concept: str) -> list[str]:
    """Those between the commas."""
    return [name.strip() for name in concept.split(",") if name.strip()]


def check_apart(edited: Sequence[str], preserved: Sequence[str], captions: Sequence[str] = ()) -> None:
    """Raises ``RequestError`` if nothing is to be edited, or something is to be edited and preserved; each of
    the ``captions`` is a name as a whole."""
    names = [name for concept in edited for name in names_of(concept)]
    kept = {name for concept in preserved for name in names_of(concept)} | {each.strip() for each in captions}
    if not names:
        raise RequestError("there is no concept to take out; name one.")
    if both := next((name for name in names if name in kept), None):
        raise RequestError(f'"{both}" is to be taken out and to be preserved; choose one of them.')


def check_templates(templates: Sequence[str]) -> None:
    """Raises ``RequestError`` unless there is one, and each has one place for a name."""
    if not templates:
        raise RequestError("give at least one template.")
    for template in templates:
        if template.count("{}") != 1:
            raise RequestError(f'the template "{template}" must have one {{}}, for the name.')


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
