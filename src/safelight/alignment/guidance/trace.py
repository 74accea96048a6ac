"""Traces: the effect of guidance on every image at every step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from safelight.alignment.guidance.plot import draw_trace
from safelight.types import TraceStep

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from safelight.alignment.guidance.hook import Moment


@dataclass(frozen=True, slots=True)
class Trace:
    """The effect of one guidance on one image, step by step."""

    steps: tuple[TraceStep, ...]

    @property
    def acted(self) -> bool:
        """Whether anything was changed at any step."""
        return any(step.acting > 0 for step in self.steps)

    def plot(self) -> Image:
        """Draw the trace as a small image."""
        return draw_trace(self.steps)


@dataclass(slots=True)
class Recorder:
    """Collects the measurements of each step on the device, so that no step waits for a transfer."""

    _steps: list[tuple[Moment, list[Tensor]]] = field(default_factory=list)

    def add(self, moment: Moment, acting: Tensor, strength: Tensor, cosine: Tensor) -> None:
        """Add the measurements of one step, (images,) each."""
        self._steps.append((moment, [acting, strength, cosine]))

    def __bool__(self) -> bool:
        return bool(self._steps)

    def clear(self) -> None:
        self._steps.clear()

    def traces(self) -> tuple[Trace, ...]:
        """Return one trace for each image of the call."""
        columns = [[value.tolist() for value in values] for _, values in self._steps]
        images = self._steps[0][0].images if self._steps else 0
        return tuple(
            Trace(
                tuple(
                    TraceStep(moment.timestep, moment.noise, *(value[image] for value in values))
                    for (moment, _), values in zip(self._steps, columns, strict=True)
                )
            )
            for image in range(images)
        )
