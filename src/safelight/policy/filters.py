"""The table of a policy that lists its filters."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from safelight.policy.table import Names, Table
from safelight.types import STAGES, Stage


class Filters(Table):
    """The filters that run at each stage, by instance name, cheapest first.

    In a filter's ``options``, ``use`` names its component, and ``isolation = "process"`` runs it in a worker
    process, which is killed if it exceeds the timeout; all other options are the component's own.
    """

    prompt: Names = ()
    """Names of the filters for prompts, in the order in which they run."""
    image: Names = ()
    """Names of the filters for images, in the order in which they run."""
    pair: Names = ()
    """Names of the filters that compare an image with its prompt, in the order in which they run."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """Time limit for one call of a filter, in seconds. An item whose filter exceeds it is blocked."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of each filter by its name: those of its component, ``use`` and ``isolation``."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [name for stage in STAGES for name in self.of(stage)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f'"{twice[0]}" is listed twice; rename one and set use = "…" in its options')
        if idle := sorted(self.options.keys() - set(names)):
            raise ValueError(f'no stage lists the filter "{idle[0]}"; list it or remove its options')
        for name, options in self.options.items():
            if options.get("isolation", "thread") not in ("thread", "process"):
                raise ValueError(f'the isolation of "{name}" is neither "thread" nor "process"; correct it')
        return self

    def of(self, stage: Stage) -> tuple[str, ...]:
        names: tuple[str, ...] = getattr(self, stage)
        return names
