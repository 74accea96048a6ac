"""Threads in which one filter is called, so that a late call can be left behind; only so many at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from safelight.deadline import Deadline
from safelight.errors import FilterError

T = TypeVar("T")

MOST_THREADS = 8
MOST_LATE = 4

# How often a wait looks whether the request was cancelled or its time is up.
_POLL_S = 0.05


class FilterThreads:
    """Calls of one filter, at most ``most`` at a time, from any number of threads.

    A call that is late is left behind and its thread goes on, because Python cannot end it. Once
    ``most_late`` calls are left behind, every further one fails at once, until one of them comes back. All
    are daemon threads: they keep no interpreter from ending.
    """

    def __init__(self, most: int = MOST_THREADS, most_late: int = MOST_LATE) -> None:
        self._most = most
        self._most_late = most_late
        self._live = 0
        self._late = 0
        self._changed = threading.Condition()

    def call(self, work: Callable[[], T], timeout_s: float, deadline: Deadline | None = None) -> T:
        """Return ``work()``.

        Waits at most ``timeout_s`` for a free thread, and as long again for the value. Raises what ``work``
        raises, ``TimeoutError`` if it is late, ``FilterError`` if too many calls are late already, and
        ``DeadlineError`` or ``RequestCancelledError`` once the request has no time left.
        """
        self._enter(timeout_s, deadline)
        call = _Call(work)
        try:
            threading.Thread(target=self._run, args=(call,), name="safelight filter", daemon=True).start()
        except BaseException:
            self._leave(call)
            raise
        if not until(call.done.wait, timeout_s, deadline) and self._given_up(call):
            if deadline:
                deadline.check()
            raise TimeoutError(f"no answer within {timeout_s:g} s")
        return call.value()

    def _enter(self, timeout_s: float, deadline: Deadline | None) -> None:
        """Take a place among the threads that run."""
        with self._changed:
            free = until(lambda wait_s: self._changed.wait_for(self._decided, wait_s), timeout_s, deadline)
            if self._late >= self._most_late:
                raise FilterError(f"{self._late} earlier calls of it never came back")
            if not free:
                if deadline:
                    deadline.check()
                raise TimeoutError(f"no thread was free within {timeout_s:g} s")
            self._live += 1

    def _decided(self) -> bool:
        return self._late >= self._most_late or self._live < self._most

    def _run(self, call: _Call[Any]) -> None:
        call.run()
        self._leave(call)

    def _leave(self, call: _Call[Any]) -> None:
        with self._changed:
            self._live -= 1
            self._late -= call.late
            call.done.set()
            self._changed.notify_all()

    def _given_up(self, call: _Call[Any]) -> bool:
        """Leave the call behind, unless it has come back just now."""
        with self._changed:
            call.late = not call.done.is_set()
            self._late += call.late
            self._changed.notify_all()
            return call.late


class _Call(Generic[T]):
    """One call of a filter, and what came of it."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._values: list[T] = []
        self._error: BaseException | None = None
        self.done = threading.Event()
        self.late = False

    def run(self) -> None:
        try:
            self._values.append(self._work())
        except BaseException as error:  # noqa: BLE001 - raised again where the call was made
            self._error = error

    def value(self) -> T:
        """Return what came of it; a filter that wants to end the interpreter has merely failed."""
        # An error that stayed here would keep itself, and the images of the call, in memory.
        error, self._error = self._error, None
        if isinstance(error, Exception):
            raise error
        if error is not None:
            raise FilterError(f"it raised {type(error).__name__}") from error
        return self._values[0]


def until(wait: Callable[[float], bool], timeout_s: float, deadline: Deadline | None) -> bool:
    """Return whether ``wait``, which is told for how many seconds, became true before time was up."""
    end = time.monotonic() + timeout_s
    while True:
        left = max(0.0, end - time.monotonic())
        if deadline:
            left = min(left, deadline.remaining())
        if wait(min(left, _POLL_S) if deadline else left):
            return True
        if left == 0:
            return False
