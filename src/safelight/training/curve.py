"""Loss curves of trainings, with the rates evaluated during training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safelight.storage.atomic_write import atomic_write

# The largest number of points of a saved curve; the losses of all steps of a long training take megabytes.
_POINTS = 200
_RECENT = 25

Point = tuple[int, float]


@dataclass
class Curve:
    """The loss of every step, and the evaluated rates by the number of steps done."""

    loss: list[float] = field(default_factory=list)
    rates: dict[int, float] = field(default_factory=dict)

    def recent(self) -> float:
        """Return the mean loss of the last steps; NaN before the first."""
        last = self.loss[-_RECENT:]
        return sum(last) / len(last) if last else float("nan")

    def points(self) -> list[Point]:
        """Return at most 200 points (last step, mean loss), each over equally many steps."""
        width = -(-len(self.loss) // _POINTS) or 1
        ends = range(width, len(self.loss) + 1, width)
        return [(end - 1, sum(self.loss[end - width : end]) / width) for end in ends]

    def save(self, path: Path) -> None:
        """Write the points as JSON, for cards and plots."""
        with atomic_write(path) as part:
            part.write_text(json.dumps(self.points()), "utf-8")


def load_points(path: Path) -> Sequence[Point]:
    """Return the points that ``Curve.save`` wrote."""
    return [(step, loss) for step, loss in json.loads(path.read_text("utf-8"))]
