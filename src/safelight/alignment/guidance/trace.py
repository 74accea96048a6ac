"""What guidance did: at every step, for every picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.alignment.guidance.hook import Moment


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One step, with a number for each picture.

    ``timestep`` is as the scheduler counts, ``noise`` ln(b²/a²): high at the beginning. ``acting`` is the
    share of elements that guidance changed, ``strength`` |γ| / |ε_p - ε_0|, ``cosine`` that of ε_p - ε_0
    with ε_S - ε_0, of the nearest concept: whether the prompt leads where the concept does. 0 where the
    concept was not looked at.
    """

    timestep: float
    noise: float
    acting: tuple[float, ...]
    strength: tuple[float, ...]
    cosine: tuple[float, ...]


@dataclass(slots=True)
class Recorder:
    """Keeps numbers where they were computed, so that no step waits for them."""

    _steps: list[tuple[Moment, list[Tensor]]] = field(default_factory=list)

    def add(self, moment: Moment, acting: Tensor, strength: Tensor, cosine: Tensor) -> None:
        """Each (N,)."""
        self._steps.append((moment, [acting, strength, cosine]))

    def clear(self) -> None:
        self._steps.clear()

    def __iter__(self) -> Iterator[TraceStep]:
        for moment, values in self._steps:
            yield TraceStep(moment.timestep, moment.noise, *(tuple(value.tolist()) for value in values))


@dataclass(frozen=True, slots=True)
class Trace:
    """What one guidance did in one call of a pipeline."""

    guidance: str
    steps: tuple[TraceStep, ...]

    def acted_on(self, picture: int) -> bool:
        """Whether anything at all was changed in the picture."""
        return any(step.acting[picture] > 0 for step in self.steps)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, numbers with four digits."""
        return {
            "guidance": self.guidance,
            "steps": [
                {
                    "timestep": round(step.timestep, 4),
                    "noise": round(step.noise, 4),
                    **{name: _rounded(getattr(step, name)) for name in ("acting", "strength", "cosine")},
                }
                for step in self.steps
            ],
        }


def _rounded(values: tuple[float, ...]) -> list[float]:
    return [round(value, 4) for value in values]
