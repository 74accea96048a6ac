"""Temporary wrappers of a method of one object; several may be active and end in any order."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Method = Callable[..., Any]
Wrap = Callable[[Method], Method]

_LOCK = threading.Lock()


class _Patched:
    """Replaces a method of an object by the composition of all active wrappers with the original.

    The wrappers are composed again whenever one is added or removed, so they can be removed in any order.
    """

    def __init__(self, original: Method) -> None:
        self.original = original
        self._wraps: list[tuple[object, Wrap]] = []
        self._composed = original
        functools.update_wrapper(self, original)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._composed(*args, **kwargs)

    def __deepcopy__(self, memo: object) -> _Patched:
        """Return the patch itself, since a copy of the object shares its functions."""
        return self

    def add(self, key: object, wrap: Wrap) -> None:
        self._wraps.append((key, wrap))
        self._compose()

    def remove(self, key: object) -> bool:
        """Remove a wrapper and return whether none is left."""
        self._wraps = [each for each in self._wraps if each[0] is not key]
        self._compose()
        return not self._wraps

    def _compose(self) -> None:
        composed = self.original
        for _, wrap in self._wraps:
            composed = wrap(composed)
        self._composed = composed


@contextmanager
def patched_method(owner: Any, name: str, wrap: Wrap) -> Iterator[None]:
    """Call ``wrap(method)`` in place of ``owner.name`` until the context ends.

    Once no wrapper is left, ``owner`` is restored. ``wrap`` is called again whenever another wrapper of the
    same method is added or removed, so it must not create state.
    """
    key = object()
    with _LOCK:
        before = vars(owner).get(name)
        patched = before if isinstance(before, _Patched) else _Patched(getattr(owner, name))
        patched.add(key, wrap)
        setattr(owner, name, patched)
    try:
        yield
    finally:
        with _LOCK:
            if patched.remove(key) and vars(owner).get(name) is patched:
                _restore(owner, name, patched.original)


def _restore(owner: Any, name: str, original: Method) -> None:
    """Restore the original method; one that is defined by the class needs no attribute on the object."""
    delattr(owner, name)
    if getattr(owner, name, None) != original:
        setattr(owner, name, original)
