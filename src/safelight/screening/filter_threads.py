"""Threads in which one filter is called, so that a late call can be left behind; only so many at a time."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from safelight.concurrency.deadline import Deadline
from safelight.errors import FilterError

T = TypeVar("T")

MOST_THREADS = 8
MOST_LATE = 4

# How often a wait looks whether the request was cancelled, or calls have become late meanwhile.
_POLL_S = 0.05


class FilterThreads:
    """Calls of one filter, at most ``most`` at a time, from any number of threads.

    A call whose caller waits no longer is left behind and its thread goes on, because Python cannot end it.
    While ``most_late`` calls have been running for longer than they may, every further one fails at once. All
    are daemon threads: they keep no interpreter from ending.
    """

    def __init__(self, most: int = MOST_THREADS, most_late: int = MOST_LATE) -> None:
        self._most = most
        self._most_late = min(most_late, most)
        self._running: set[_Call[Any]] = set()
        self._changed = threading.Condition()

    def call(self, work: Callable[[], T], timeout_s: float, deadline: Deadline | None = None) -> T:
        """Return ``work()``.

        Waits for a free thread as long as the calls before it go on coming back, and then at most
        ``timeout_s`` for the value: many calls at once make a filter slow, and no call late. Raises what
        ``work`` raises, ``TimeoutError`` if it is late, ``FilterError`` if too many calls are late already,
        and ``DeadlineError`` or ``RequestCancelledError`` once the request has no time left.
        """
        call = _Call(work, timeout_s)
        self._enter(call, deadline)
        try:
            threading.Thread(target=self._run, args=(call,), name="safelight filter", daemon=True).start()
        except BaseException:
            self._leave(call)
            raise
        if not _until(call.done.wait, timeout_s, deadline):
            raise TimeoutError(f"no answer within {timeout_s:g} s")
        return call.value()

    def _enter(self, call: _Call[Any], deadline: Deadline | None) -> None:
        """Take a place among the calls that run."""
        with self._changed:
            # Calls that do not come back become late, so this ends however many wait.
            _until(self._wait_for_place, math.inf, deadline)
            if self._late() >= self._most_late:
                raise FilterError(f"{self._late()} earlier calls of it never came back")
            call.end = time.monotonic() + call.timeout_s
            self._running.add(call)

    def _wait_for_place(self, wait_s: float) -> bool:
        """Whether there is a free place within ``wait_s``, or none is worth waiting for."""
        return self._changed.wait_for(
            lambda: self._late() >= self._most_late or len(self._running) < self._most, wait_s
        )

    def _late(self) -> int:
        now = time.monotonic()
        return sum(call.end <= now for call in self._running)

    def _run(self, call: _Call[Any]) -> None:
        call.run()
        self._leave(call)

    def _leave(self, call: _Call[Any]) -> None:
        with self._changed:
            self._running.discard(call)
            self._changed.notify_all()
        call.done.set()


class _Call(Generic[T]):
    """One call of a filter, and what came of it."""

    def __init__(self, work: Callable[[], T], timeout_s: float) -> None:
        self._work = work
        self._values: list[T] = []
        self._error: BaseException | None = None
        self.timeout_s = timeout_s
        self.end = math.inf
        self.done = threading.Event()

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


def _until(wait: Callable[[float], bool], timeout_s: float, deadline: Deadline | None) -> bool:
    """Return whether ``wait``, which is told for how many seconds, became true within ``timeout_s``.

    Raises ``DeadlineError`` or ``RequestCancelledError`` once the request has no time left.
    """
    end = time.monotonic() + timeout_s
    while True:
        left = max(0.0, end - time.monotonic())
        if wait(min(left, _POLL_S)):
            return True
        if deadline:
            deadline.check()
        if left == 0:
            return False
