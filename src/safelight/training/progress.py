"""How a long training tells where it is: lines with the time left, and a curve kept for the card."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

# A bar that another process draws on the same line goes: it will draw itself again on the next.
_CLEAR = "\r\033[K"


class Progress:
    """Prints at most one line every ``every_s`` seconds: step, share, time left and what is measured."""

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


@dataclass
class Curve:
    """A loss over steps, smoothed for telling and thinned for keeping."""

    points: list[tuple[int, float]] = field(default_factory=list)
    every: int = 25
    _sum: float = 0.0
    _count: int = 0

    def add(self, step: int, value: float) -> None:
        self._sum += value
        self._count += 1
        if self._count == self.every:
            self.points.append((step, self._sum / self.every))
            self._sum, self._count = 0.0, 0

    def recent(self) -> float:
        if self._count:
            return self._sum / self._count
        return self.points[-1][1] if self.points else float("nan")

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.points))

    @classmethod
    def load(cls, path: Path) -> Curve:
        """The curve kept at ``path``; an empty one if there is none yet."""
        points = json.loads(path.read_text()) if path.exists() else []
        return cls([(step, value) for step, value in points])
