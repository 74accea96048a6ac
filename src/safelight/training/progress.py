"""Progress lines of a long training on the terminal: steps done and time left."""

from __future__ import annotations

import sys
import time

# Clears a progress bar that another process drew on this line; the bar is drawn again on the next line.
_CLEAR = "\r\033[K"


class Progress:
    """Prints at most one line every ``every_s`` seconds: the step, the time left and ``measured``."""

    def __init__(self, name: str, steps: int, every_s: float = 20.0, first: int = 0) -> None:
        self.name, self.steps, self.every_s = name, steps, every_s
        self.first, self.start = first, time.monotonic()
        self._next = self.start + min(5.0, every_s)

    def tell(self, step: int, measured: str = "") -> None:
        now = time.monotonic()
        if now < self._next and step < self.steps:
            return
        self._next = now + self.every_s
        rate = (step - self.first) / max(now - self.start, 1e-9)
        left = (self.steps - step) / max(rate, 1e-9)
        line = (
            f"{self.name}: step {step}/{self.steps} ({100 * step / self.steps:.0f} %), "
            f"{rate:.2f} steps/s, {left / 60:.1f} min left, {measured}\n"
        )
        sys.stderr.write(_CLEAR + line if sys.stderr.isatty() else line)
        sys.stderr.flush()
