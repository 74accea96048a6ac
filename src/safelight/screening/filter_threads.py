"""Runs the calls of one filter in a limited number of threads, so that late calls can be abandoned."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from safelight.concurrency.deadline import Deadline
from safelight.errors import FilterError

T = TypeVar("T")

MAX_THREADS = 8
MAX_LATE = 4

# The interval at which waiting calls check whether the request was cancelled or other calls became late.
_POLL_S = 0.05


class FilterThreads:
    """Runs calls of one filter, at most ``max_running`` at a time; it may be used from any number of threads.

    A call whose caller stopped waiting is abandoned, but its thread continues, because Python cannot end it.
    While ``max_late`` calls are late, every further call fails at once. All threads are daemon threads, which
    do not keep the interpreter from exiting.
    """

    def __init__(self, max_running: int = MAX_THREADS, max_late: int = MAX_LATE) -> None:
        self._max_running = max_running
        self._max_late = min(max_late, max_running)
        self._running: set[_Call[Any]] = set()
        self._changed = threading.Condition()

    def call(self, work: Callable[[], T], timeout_s: float, deadline: Deadline | None = None) -> T:
        """Return ``work()``, called in a thread.

        The call first waits for a free thread, without a limit as long as earlier calls return, and then at
        most ``timeout_s`` for the result, so that waiting does not make a call late. Raises what ``work``
        raises, ``TimeoutError`` if it is late, ``FilterError`` if too many calls are late already, and
        ``DeadlineError`` or ``RequestCancelledError`` once the request has no time left.
        """
        call = _Call(work, timeout_s)
        self._enter(call, deadline)
        try:
            threading.Thread(target=self._run, args=(call,), name="safelight filter", daemon=True).start()
        except BaseException:
            self._leave(call)
            raise
        if not _wait_until(call.done.wait, timeout_s, deadline):
            raise TimeoutError(f"no answer within {timeout_s:g} s")
        return call.value()

    def _enter(self, call: _Call[Any], deadline: Deadline | None) -> None:
        """Wait for a free place and add the call to the running ones."""
        with self._changed:
            # Calls that do not return become late, so this wait ends.
            _wait_until(self._wait_for_place, math.inf, deadline)
            if self._late_count() >= self._max_late:
                raise FilterError(f"{self._late_count()} earlier calls of it have not returned")
            call.end = time.monotonic() + call.timeout_s
            self._running.add(call)

    def _wait_for_place(self, wait_s: float) -> bool:
        """Return whether within ``wait_s`` a place is free, or too many calls are late to go on waiting."""
        return self._changed.wait_for(
            lambda: self._late_count() >= self._max_late or len(self._running) < self._max_running, wait_s
        )

    def _late_count(self) -> int:
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
    """One call of a filter and its outcome."""

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
        """Return the result or raise the error of the call; ``SystemExit`` becomes a ``FilterError``."""
        # A reference to the error would form a cycle, which keeps the images of the call in memory.
        error, self._error = self._error, None
        if isinstance(error, Exception):
            raise error
        if error is not None:
            raise FilterError(f"it raised {type(error).__name__}") from error
        return self._values[0]


def _wait_until(wait: Callable[[float], bool], timeout_s: float, deadline: Deadline | None) -> bool:
    """Return whether ``wait``, a function of the seconds to wait, returned true within ``timeout_s``.

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
