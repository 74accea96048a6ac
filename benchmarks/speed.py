"""Time of importing, rendering scenes, generating, guarding and a cold start."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from statistics import median
from typing import Any

import safelight
from safelight.evaluation import BareSystem, GuardedSystem
from safelight.storybook import Storybook
from safelight.storybook.suites import suite
from timing import seconds

STEPS = 25
_ROUNDS = 9


def measure() -> tuple[dict[str, Any], dict[str, float | None]]:
    """The machine and the measured values, in seconds unless the name says otherwise."""
    pipe = safelight.load_pipeline("storybook")
    pipe.set_progress_bar_config(disable=True)
    guard = safelight.Guard.from_policy("storybook")
    late = guard.with_policy(guard.policy.model_copy(update={"early_stop": None}))
    bare, at_the_end, guarded = _draw(
        BareSystem(pipe, num_inference_steps=STEPS), _guarded(late, pipe), _guarded(guard, pipe)
    )
    prompts = [case.prompt for case in suite("model").cases[:1000]]
    own, peer = _import("safelight"), _import("numpy")
    return {"images": 16, "steps": STEPS}, {
        "import": own,
        "import / import numpy": own / peer,
        "scenes drawn a second, one core": 2000 / _median(lambda: list(Storybook(1).scenes(2000)), 3),
        "batch of 16": bare,
        "guarded batch of 16": guarded,
        "guarded / bare": guarded / bare,
        "guarded / guarded without early stopping": guarded / at_the_end,
        "prompts screened a second": len(prompts) / _median(lambda: guard.screen_prompts(prompts), 3),
        "safelight generate, cold": _cold(),
    }


def _guarded(guard: safelight.Guard, pipe: Any) -> GuardedSystem:
    return GuardedSystem(guard, pipe, num_inference_steps=STEPS)


def _draw(*systems: BareSystem | GuardedSystem) -> list[float]:
    """Return the median time of a batch for each system, taking turns, on prompts that are not refused."""
    prompts = 4 * ["a dog in the park", "a cat on a chair", "a boat at the beach", "a red apple"]
    for system in systems:
        system.answer(prompts[:1], [0])
    rounds = [
        [seconds(lambda system=system: system.answer(prompts, range(len(prompts)))) for system in systems]  # type: ignore[misc]
        for _ in range(_ROUNDS)
    ]
    return [median(times) for times in zip(*rounds, strict=True)]


def _import(module: str) -> float:
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    return median(float(_python("-c", code)) for _ in range(7))


def _cold() -> float:
    with tempfile.TemporaryDirectory() as folder:
        order = ("-m", "safelight", "generate", "a dog in the park", "--seed", "1", "--output", folder)
        return _median(lambda: _python(*order), 3)


def _python(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


def _median(work: Callable[[], object], times: int) -> float:
    return median(seconds(work) for _ in range(times))
