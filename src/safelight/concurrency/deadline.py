"""The deadline of a request, shared by decoding, filters and image generation, and its cancellation."""

from __future__ import annotations

import math
import threading
import time

from safelight.errors import DeadlineError, RequestCancelledError, RequestError


class Deadline:
    """The time limit of a request, which can also be cancelled.

    ``seconds`` count from now; with None there is no limit. ``cancel`` may be called from any thread. Raises
    ``RequestError`` unless ``seconds`` is a positive number.
    """

    def __init__(self, seconds: float | None = None) -> None:
        if seconds is not None and not (isinstance(seconds, int | float) and 0 < seconds <= math.inf):
            raise RequestError(f"the deadline is {seconds!r} seconds; give a positive number.")
        self.seconds = math.inf if seconds is None else float(seconds)
        self._end = time.monotonic() + self.seconds
        self._cancelled = threading.Event()

    def remaining(self) -> float:
        """Return the seconds that are left: at least 0, infinite without a limit, 0 once cancelled."""
        if self._cancelled.is_set():
            return 0.0
        return max(0.0, self._end - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the time is up or the request was cancelled."""
        return self.remaining() == 0.0

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Cancel the request: everything that works on it stops at its next check."""
        self._cancelled.set()

    def check(self) -> None:
        """Raise ``RequestCancelledError`` or ``DeadlineError`` if the request has no time left."""
        if self._cancelled.is_set():
            raise RequestCancelledError("the request was cancelled.")
        if self.passed:
            raise DeadlineError(f"the request took longer than its deadline of {self.seconds:g} s.")
