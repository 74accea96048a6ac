"""A method of one object, wrapped for a while, by any number of callers who may stop in any order."""

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
    """Stands in an object's place of a method: the original inside of every wrapper that is active now.

    Wrappers are kept in a list and composed anew when one comes or goes, so the order of undoing them makes
    no difference.
    """

    def __init__(self, original: Method) -> None:
        self.original = original
        self._wraps: list[tuple[object, Wrap]] = []
        self._composed = original
        functools.update_wrapper(self, original)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._composed(*args, **kwargs)

    def __deepcopy__(self, memo: object) -> _Patched:
        """A copy of the object shares it, as it would share a function."""
        return self

    def add(self, key: object, wrap: Wrap) -> None:
        self._wraps.append((key, wrap))
        self._compose()

    def remove(self, key: object) -> bool:
        """Return whether no wrapper is left."""
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

    Once no wrapper is left, ``owner`` is what it was before. ``wrap`` is called again whenever another
    wrapper of the same method comes or goes, so state belongs outside of it.
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
    """A method that came from the class needs no attribute on the object."""
    delattr(owner, name)
    if getattr(owner, name, None) != original:
        setattr(owner, name, original)
