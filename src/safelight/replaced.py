"""A method of one object, replaced for a while."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Method = Callable[..., Any]


@contextmanager
def replaced(owner: Any, name: str, make: Callable[[Method], Method]) -> Iterator[None]:
    """While it lasts, ``owner.name`` is ``make(owner.name)``; afterwards ``owner`` is what it was before.

    For what is put on one object by several, the last one on must be the first one off.
    """
    original, own = getattr(owner, name), vars(owner).get(name)
    setattr(owner, name, functools.wraps(original)(make(original)))
    try:
        yield
    finally:
        delattr(owner, name)
        if own is not None:
            setattr(owner, name, own)
