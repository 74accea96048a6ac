"""A private copy of a pipeline for one call: it shares the weights, but no state that a call changes."""

from __future__ import annotations

import copy
import threading
from typing import Any
from weakref import WeakKeyDictionary

from safelight.alignment.guidance import is_guided

# The copy of each tokenizer, and the state of the tokenizer when it was copied.
_TOKENIZERS: WeakKeyDictionary[Any, tuple[Any, Any]] = WeakKeyDictionary()
_LOCK = threading.Lock()
_SETTINGS = ("model_max_length", "padding_side", "truncation_side")


def private_pipeline(pipe: Any) -> Any:
    """Return a shallow copy of ``pipe`` with its own scheduler and tokenizers.

    A diffusers pipeline stores the guidance scale, the timesteps and more of a call on itself and on its
    scheduler, and guidance is attached to it, so concurrent calls of one object would interfere. Tokenizers
    store their padding and truncation settings, so they are copied once, and calls use the copies one after
    the other. ``pipe`` itself is returned if a copy would lose state: if it is not a diffusers pipeline, if
    the caller attached guidance to it, or if methods of its scheduler were replaced.
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
    """Return whether it is a tokenizer of the transformers library."""
    return hasattr(type(part), "__len__") and all(hasattr(part, name) for name in _SETTINGS)


def _private_tokenizer(tokenizer: Any) -> Any:
    """Return the copy of a tokenizer, which is made again if its tokens or settings have changed."""
    now = len(tokenizer), *(getattr(tokenizer, name) for name in _SETTINGS)
    with _LOCK:
        copied, then = _TOKENIZERS.get(tokenizer, (None, None))
        if then != now:
            copied = copy.deepcopy(tokenizer)
            _TOKENIZERS[tokenizer] = copied, now
    return copied
