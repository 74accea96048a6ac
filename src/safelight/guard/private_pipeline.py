"""A pipeline of a call's own: it shares its weights with others, and nothing that a call changes."""

from __future__ import annotations

import copy
import threading
from typing import Any
from weakref import WeakKeyDictionary

from safelight.alignment.guidance import is_guided

# The copy of each tokenizer, and what the tokenizer was like when it was copied.
_TOKENIZERS: WeakKeyDictionary[Any, tuple[Any, Any]] = WeakKeyDictionary()
_LOCK = threading.Lock()
_SETTINGS = ("model_max_length", "padding_side", "truncation_side")


def private_pipeline(pipe: Any) -> Any:
    """Return a shallow copy of ``pipe`` with its own scheduler and tokenizers.

    A diffusers pipeline keeps a call's guidance scale, timesteps and more on itself and on its scheduler, and
    guidance is attached to it, so two calls of one object get in each other's way. Tokenizers keep how they
    pad and truncate, so they are copied once, and the copies are used by calls that take turns. ``pipe``
    itself is returned where a copy would lose something: for what is no diffusers pipeline, where the caller
    attached guidance to it, and where methods of the scheduler were replaced.
    """
    scheduler = getattr(pipe, "scheduler", None)
    if not hasattr(pipe, "components") or not hasattr(scheduler, "set_timesteps") or is_guided(pipe):
        return pipe
    if any(callable(value) for value in vars(scheduler).values()):
        return pipe
    private = object.__new__(type(pipe))
    private.__dict__.update(vars(pipe))
    private.__dict__["scheduler"] = copy.deepcopy(scheduler)
    for name, part in vars(pipe).items():
        if is_tokenizer(part):
            private.__dict__[name] = _private_tokenizer(part)
    return private


def is_tokenizer(part: Any) -> bool:
    """Whether it is a tokenizer as the transformers library has them."""
    return hasattr(type(part), "__len__") and all(hasattr(part, name) for name in _SETTINGS)


def _private_tokenizer(tokenizer: Any) -> Any:
    """Return the copy; a new one if tokens were added or settings changed since."""
    now = len(tokenizer), *(getattr(tokenizer, name) for name in _SETTINGS)
    with _LOCK:
        copied, then = _TOKENIZERS.get(tokenizer, (None, None))
        if then != now:
            copied = copy.deepcopy(tokenizer)
            _TOKENIZERS[tokenizer] = copied, now
    return copied
