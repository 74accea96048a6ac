"""Mutual exclusion of calls that share a network: they run one after the other, in the order of arrival."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from safelight.guard.private_pipeline import is_tokenizer
from safelight.models.network_view import original_of

# Seconds between two checks of a waiting call whether it should go on waiting.
_CHECK_S = 0.05


class _Line:
    """A lock that is acquired in the order of arrival."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextmanager
    def turn(self, check: Callable[[], None]) -> Iterator[None]:
        ticket = object()
        with self._condition:
            self._waiting.append(ticket)
        try:
            self._wait(ticket, check)
            yield
        finally:
            with self._condition:
                self._waiting.remove(ticket)
                self._condition.notify_all()

    def _wait(self, ticket: object, check: Callable[[], None]) -> None:
        with self._condition:
            while self._waiting[0] is not ticket:
                self._condition.wait(_CHECK_S)
                check()
        check()


_LINES: WeakKeyDictionary[Any, _Line] = WeakKeyDictionary()
_LOCK = threading.Lock()
# The lock of all pipelines that cannot be weakly referenced; their calls exclude each other.
_OTHERS = _Line()


@contextmanager
def turn(pipe: Any, check: Callable[[], None]) -> Iterator[None]:
    """Wait until no other call uses ``pipe`` or any of its networks and tokenizers.

    Deltas change weights, and some pipelines move their components between devices or precisions, so calls
    that share a network take turns. ``check`` is called while waiting, and raises an error to stop waiting.
    """
    with ExitStack() as stack:
        # Every call acquires its lines in the same order, so no two calls can wait for each other.
        for line in sorted(_lines(pipe), key=id):
            stack.enter_context(line.turn(check))
        yield


def _lines(pipe: Any) -> set[_Line]:
    parts = vars(pipe).values() if hasattr(pipe, "__dict__") else ()
    shared = [part for part in parts if hasattr(part, "named_parameters") or is_tokenizer(part)]
    with _LOCK:
        return {_line_of(original_of(part)) for part in shared or [pipe]}


def _line_of(owner: Any) -> _Line:
    try:
        return _LINES.setdefault(owner, _Line())
    except TypeError:  # it has no hash or no weak references
        return _OTHERS
