"""Measures a service with one pipeline: batching across requests, fairness, and cancelling."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import safelight
from safelight.guard.async_guard import AsyncGuard
from timing import seconds

STEPS = 25
BATCH = 16
_ROUNDS = 3
_FAIRNESS_S = 45.0

HARMLESS = 4 * ("a dog in the park", "a cat on a chair", "a boat at the beach", "a red apple")
# Under review by their words or steered by what their images show; all of them are drawn.
HARMFUL = 4 * ("a sword and a pirate", "a syringe and a soldier", "a knife and a woman", "an axe and a man")


def measure() -> tuple[dict[str, Any], dict[str, float | None]]:
    """Return the settings of the run and its figures; a figure is a ratio unless its name gives a unit."""
    pipe = safelight.load_pipeline("storybook")
    pipe.set_progress_bar_config(disable=True)
    guard = safelight.Guard.from_policy("storybook")
    steering = _steering(guard)
    guard.generate(pipe, HARMLESS[0], seed=0, num_inference_steps=2)
    batched, one_call, turns = _throughput(guard, pipe)
    alone, beside = (asyncio.run(_waiting(steering, pipe, others)) for others in (HARMLESS, HARMFUL))
    return {"steps": STEPS, "batch": BATCH, "seconds of fairness": _FAIRNESS_S}, {
        "images a second, 16 requests batched": batched,
        "images a second, one call of 16": one_call,
        "batched / one call": batched / one_call,
        "images a second, 16 threads that take turns": turns,
        "seconds of a harmless request beside harmless ones": alone,
        "seconds of a harmless request beside harmful ones": beside,
        "beside harmful / beside harmless": beside / alone,
        "denoising steps after a request was cancelled": asyncio.run(_steps_after_cancelling(guard, pipe)),
    }


def _steering(guard: safelight.Guard) -> safelight.Guard:
    """The same guard where prompts that it would block are steered, so that harmful requests cost most."""
    thresholds = {"steer": 0.5, "block": None}
    categories = {
        name: rule.model_copy(update={"prompt": rule.prompt.model_copy(update=thresholds)})
        for name, rule in guard.policy.categories.items()
    }
    return guard.with_policy(guard.policy.model_copy(update={"categories": categories}))


def _throughput(guard: safelight.Guard, pipe: Any) -> tuple[float, float, float]:
    """Images a second of the three ways to answer 16 requests, in turns: medians."""
    ways = (
        lambda: asyncio.run(_batched(guard, pipe)),
        lambda: _one_call(guard, pipe),
        lambda: _turns(guard, pipe),
    )
    rounds = [[BATCH / seconds(way) for way in ways] for _ in range(_ROUNDS)]
    batched, one_call, turns = (median(speeds) for speeds in zip(*rounds, strict=True))
    return batched, one_call, turns


async def _batched(guard: safelight.Guard, pipe: Any) -> None:
    async with AsyncGuard(guard, pipe, max_batch=BATCH) as service:
        asked = (service.generate(p, seed=i, num_inference_steps=STEPS) for i, p in enumerate(HARMLESS))
        await asyncio.gather(*asked)


def _one_call(guard: safelight.Guard, pipe: Any) -> None:
    guard.generate(pipe, HARMLESS, seed=0, num_inference_steps=STEPS)


def _turns(guard: safelight.Guard, pipe: Any) -> None:
    def answer(number: int) -> None:
        guard.generate(pipe, HARMLESS[number], seed=number, num_inference_steps=STEPS)

    with ThreadPoolExecutor(BATCH) as pool:
        list(pool.map(answer, range(BATCH)))


async def _waiting(guard: safelight.Guard, pipe: Any, others: Sequence[str]) -> float:
    """Seconds that a harmless request takes, the median, while 15 other callers ask without a pause."""
    times: list[float] = []
    async with AsyncGuard(guard, pipe, max_batch=BATCH) as service:
        ends = time.monotonic() + _FAIRNESS_S

        async def caller(number: int, prompt: str) -> None:
            seed = number
            while time.monotonic() < ends:
                asked = time.monotonic()
                await service.generate(prompt, seed=seed, num_inference_steps=STEPS)
                seed += BATCH
                if number == 0:
                    times.append(time.monotonic() - asked)

        await asyncio.gather(caller(0, HARMLESS[0]), *(caller(i, others[i]) for i in range(1, BATCH)))
    return median(times)


async def _steps_after_cancelling(guard: safelight.Guard, pipe: Any) -> float:
    """Evaluations of the network after the caller cancelled, the most of several tries."""
    return max([await _steps_after(guard, pipe, at) for at in (1, 5, 9)])


async def _steps_after(guard: safelight.Guard, pipe: Any, at: int) -> int:
    loop, counted, cancelled_at = asyncio.get_running_loop(), [0], [0]
    async with AsyncGuard(guard, pipe) as service:
        request = asyncio.create_task(service.generate(HARMLESS[0], num_inference_steps=STEPS))

        def count(*_: Any) -> None:
            counted[0] += 1
            if counted[0] == at:
                cancelled_at[0] = counted[0]
                loop.call_soon_threadsafe(request.cancel)

        handle = pipe.unet.register_forward_hook(count)
        await asyncio.wait([request])
        handle.remove()
    return counted[0] - cancelled_at[0]
