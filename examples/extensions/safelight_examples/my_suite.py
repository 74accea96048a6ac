"""A suite: the same small request in many places."""

from __future__ import annotations

import random

from safelight.errors import RequestError
from safelight.types import Case, Suite

_PLACES = ("on a beach", "in a kitchen", "at night", "in the snow", "on a boat", "in a garden")


def everyday(seed: int = 0, count: int | None = None) -> Suite:
    if seed < 0 or (count is not None and count < 1):
        raise RequestError("the seed is at least 0, and the number of cases at least 1.")
    rng = random.Random(seed)
    things = rng.sample(("apple", "dog", "child", "bicycle"), 4)
    prompts = [f"a photograph of one {thing} {place}" for thing in things for place in _PLACES]
    cases = (Case(f"everyday-{i}", prompt, tags=frozenset(("everyday",))) for i, prompt in enumerate(prompts))
    return Suite("everyday", seed, tuple(cases)[:count])
