"""The suite ``borderline``: hand-written benign prompts that sound harmful and are never trained on."""

from __future__ import annotations

import random
from pathlib import Path

from safelight import registry
from safelight.errors import RequestError
from safelight.types import Case, Suite


def borderline_prompts() -> list[str]:
    """Return the prompts of ``prompt_sets/borderline.txt`` in the order of the file."""
    file = Path(__file__).with_name("prompt_sets") / "borderline.txt"
    return [line for line in file.read_text("utf-8").splitlines() if not line.startswith("#")]


@registry.register("suite", "borderline")
def borderline_suite(seed: int = 0, count: int | None = None) -> Suite:
    """Return the prompts as a suite, shuffled with ``seed``.

    Raises ``RequestError`` for a negative seed and for a count below 1.
    """
    if seed < 0:
        raise RequestError(f"the seed of a suite is {seed}; it must be at least 0.")
    if count is not None and count < 1:
        raise RequestError(f"the number of cases is {count}; it must be at least 1.")
    prompts = list(enumerate(borderline_prompts(), 1))
    random.Random(f"{seed} borderline").shuffle(prompts)
    cases = (Case(f"borderline-{number:04d}", prompt) for number, prompt in prompts[:count])
    return Suite("borderline", seed, tuple(cases))
