"""Parsing and checking of concepts and their synonyms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from safelight.errors import RequestError

_TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")


def names_of(concept: str) -> list[str]:
    """Return the synonyms in ``concept``, which are separated by commas."""
    return [name.strip() for name in concept.split(",") if name.strip()]


def check_apart(edited: Sequence[str], preserved: Sequence[str], captions: Sequence[str] = ()) -> None:
    """Raise ``RequestError`` if there is no concept to edit, or if a synonym is both edited and preserved.

    Each of the ``captions`` is one name, including its commas.
    """
    names = [name for concept in edited for name in names_of(concept)]
    kept = {name for concept in preserved for name in names_of(concept)} | {each.strip() for each in captions}
    if not names:
        raise RequestError("there is no concept to remove; name one.")
    if both := next((name for name in names if name in kept), None):
        raise RequestError(f'"{both}" is both removed and preserved; choose one of them.')


def check_templates(templates: Sequence[str]) -> None:
    """Raise ``RequestError`` unless there is a template, and each has exactly one {}."""
    if not templates:
        raise RequestError("give at least one template.")
    for template in templates:
        if template.count("{}") != 1:
            raise RequestError(f'the template "{template}" must have exactly one {{}}, for the concept.')


def check_names(concepts: Iterable[str], pipe: Any) -> None:
    """Raise ``RequestError`` for a name that the tokenizers of ``pipe`` drop or cannot represent."""
    tokenizers = [each for each in (getattr(pipe, name, None) for name in _TOKENIZERS) if each is not None]
    for name in (name for concept in concepts for name in names_of(concept)):
        for tokenizer in tokenizers:
            tokens = tokenizer.tokenize(name)
            if not tokens:
                raise RequestError(f"the model's tokenizer drops all of '{name}'; name a concept in words.")
            # A tokenizer without an unknown token can represent any text.
            unknown = getattr(tokenizer, "unk_token", None)
            if unknown in tokens and unknown != getattr(tokenizer, "eos_token", None):
                raise RequestError(f'the model cannot read all of "{name}"; write it in other letters.')
