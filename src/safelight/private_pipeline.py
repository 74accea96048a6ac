"""A pipeline of a call's own: it shares its weights with others, and nothing that a call changes."""

from __future__ import annotations

import copy
from typing import Any

from safelight.alignment.guidance import is_guided


def private_pipeline(pipe: Any) -> Any:
    """Return a shallow copy of ``pipe`` with its own scheduler.

    A diffusers pipeline keeps a call's guidance scale, timesteps and more on itself and on its scheduler, and
    guidance is attached to it, so two calls of one object get in each other's way. The copy takes
    microseconds. ``pipe`` itself is returned where a copy would lose something: for what is no diffusers
    pipeline, where the caller attached guidance to it, and where methods of the scheduler were replaced.
    """
    scheduler = getattr(pipe, "scheduler", None)
    if not hasattr(pipe, "components") or not hasattr(scheduler, "set_timesteps") or is_guided(pipe):
        return pipe
    if any(callable(value) for value in vars(scheduler).values()):
        return pipe
    private = object.__new__(type(pipe))
    private.__dict__.update(vars(pipe))
    private.__dict__["scheduler"] = copy.deepcopy(scheduler)
    return private
