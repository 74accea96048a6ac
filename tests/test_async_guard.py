"""The asynchronous guard when requests fail or are cancelled, and when it is used in unusual ways."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines import family
from safelight.errors import ModelError, RequestError
from safelight.guard.async_guard import AsyncGuard
from safelight.guard.guard import Guard
from safelight.policy import Policy
from safelight.types import Finding, Result
from test_concurrency import GUIDANCE, STEPS, Ear, Eye


class BrightEye(Eye):
    """Detects a gun in every image."""

    def find(self, images: Sequence[Image.Image]) -> list[list[Finding]]:
        return [[Finding("gun", 0.95, self.name)] for _ in images]


@pytest.fixture
def made(pipe: Any) -> Any:
    return family("sd", pipe)[0]


@pytest.fixture
def policy(write_policy: Callable[..., Path]) -> Policy:
    """Steers and stops early."""
    prompt = "{ review = 0.3, steer = 0.5, block = 0.8 }"
    return Policy.load(write_policy(("[filters]", GUIDANCE), ("{ review = 0.3, block = 0.8 }", prompt)))


@pytest.fixture
def guard(policy: Policy) -> Guard:
    return Guard(policy, {"prompt": [Ear], "image": [Eye]})


def _without_stops(policy: Policy) -> Policy:
    return policy.model_copy(update={"name": "finishes", "early_stop": None})


def _failing(made: Any, error: BaseException) -> Any:
    """Make the pipeline raise ``error`` for the prompt "odd"."""
    encode = made.encode_prompt

    def breaking(prompt: list[str], *args: Any, **kwargs: Any) -> Any:
        if "odd" in prompt:
            raise error
        return encode(prompt, *args, **kwargs)

    made.encode_prompt = breaking
    return made


def _count_steps(made: Any) -> list[int]:
    counted: list[int] = []
    made.unet.register_forward_hook(lambda *_: counted.append(1))
    return counted


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration(), asyncio.CancelledError()])
def test_an_error_that_cannot_cross_a_loop_is_one_of_its_request_alone(
    error: BaseException, guard: Guard, made: Any
) -> None:
    async def serve() -> list[Any]:
        async with AsyncGuard(guard, _failing(made, error), max_wait_ms=200) as service:
            asked = asyncio.gather(
                *(service.generate(prompt, seed=1, **STEPS) for prompt in ("odd", "a cat")),
                return_exceptions=True,
            )
            return list(await asyncio.wait_for(asked, 30))

    odd, cat = asyncio.run(serve())
    assert isinstance(odd, ModelError)
    assert type(error).__name__ in str(odd)
    assert isinstance(cat, Result)


def test_a_request_that_is_cancelled_while_it_is_screened_early_costs_the_others_nothing(
    policy: Policy, made: Any
) -> None:
    looking, leave = threading.Event(), threading.Event()

    class SlowEye(Eye):
        def find(self, images: Sequence[Image.Image]) -> list[list[Finding]]:
            if not looking.is_set():
                looking.set()
                leave.wait(30)
            return super().find(images)

    guard = Guard(policy, {"prompt": [Ear], "image": [SlowEye]})
    counted = _count_steps(made)

    async def serve() -> Result:
        async with AsyncGuard(guard, made, max_batch=2, max_wait_ms=30_000) as service:
            stops = asyncio.create_task(service.generate("a cat", seed=1, **STEPS))
            other = asyncio.create_task(
                service.generate("a dog", seed=2, policy=_without_stops(policy), **STEPS)
            )
            assert await asyncio.to_thread(looking.wait, 30)
            stops.cancel()
            return await other

    assert isinstance(asyncio.run(serve()), Result)
    leave.set()
    assert len(counted) == STEPS["num_inference_steps"], "the call was not made a second time"


def test_a_call_that_failed_after_images_were_given_up_is_repeated_from_the_start(
    policy: Policy, made: Any
) -> None:
    """The autoencoder breaks when it decodes two finished images."""
    decode, decoded = made.vae.decode, []

    def breaking(latents: Any, *args: Any, **kwargs: Any) -> Any:
        decoded.append(len(latents))
        if decoded == [2, 2]:
            raise RuntimeError("out of memory")
        return decode(latents, *args, **kwargs)

    made.vae.decode = breaking
    guard = Guard(policy.model_copy(update={"guidance": None}), {"prompt": [Ear], "image": [BrightEye]})

    async def serve() -> list[Result]:
        async with AsyncGuard(guard, made, max_batch=2, max_wait_ms=30_000) as service:
            plain = _without_stops(guard.policy)
            return list(
                await asyncio.gather(
                    service.generate("a cat", seed=1, **STEPS),
                    service.generate("a dog", seed=2, policy=plain, **STEPS),
                )
            )

    try:
        stopped, finished = asyncio.run(serve())
    finally:
        del made.vae.decode
    assert stopped.stopped[0].step == 3
    assert [str(stopped.action), str(finished.action)] == ["block", "block"]
    assert decoded[:2] == [2, 2]


def test_policies_of_the_same_name_each_steer_their_own_images(policy: Policy, made: Any) -> None:
    def with_concept(text: str) -> Policy:
        led = policy.guidance.model_copy(update={"default": "prompt-projection", "concepts": {"gun": text}})
        return policy.model_copy(update={"guidance": led, "early_stop": None})

    one, other = with_concept("a gun"), with_concept("zebra")
    guard = Guard(one, {"prompt": [Ear], "image": [Eye]})

    async def serve() -> list[Result]:
        async with AsyncGuard(guard, made, max_batch=2, max_wait_ms=30_000) as service:
            asked = (service.generate("a gun", seed=1, policy=each, **STEPS) for each in (one, other))
            return list(await asyncio.gather(*asked))

    alone = [guard.with_policy(each).generate(made, "a gun", seed=1, **STEPS) for each in (one, other)]
    pixels = [np.asarray(result.images[0]).astype(int) for result in alone]
    assert np.abs(pixels[0] - pixels[1]).max() > 10
    for result, expected in zip(asyncio.run(serve()), pixels, strict=True):
        assert np.abs(np.asarray(result.images[0]).astype(int) - expected).max() <= 2


def test_a_guard_is_opened_once_in_one_event_loop(guard: Guard, made: Any) -> None:
    service = AsyncGuard(guard, made)

    async def use() -> None:
        async with service:
            with pytest.raises(RequestError, match="only once"):
                await service.__aenter__()
            elsewhere = asyncio.to_thread(lambda: asyncio.run(service.generate("a cat", seed=1, **STEPS)))
            with pytest.raises(RequestError, match="another event loop"):
                await elsewhere
            assert (await service.generate("a cat", seed=1, **STEPS)).action == "allow"

    asyncio.run(use())
    with pytest.raises(RequestError, match="only once"):
        asyncio.run(use())


def test_a_guard_that_was_never_opened_can_be_closed(guard: Guard, made: Any) -> None:
    service = AsyncGuard(guard, made)

    async def use() -> None:
        with pytest.raises(RequestError, match="not open"):
            await service.generate("a cat", **STEPS)
        await service.close()
        with pytest.raises(RequestError, match="only once"):
            await service.__aenter__()

    asyncio.run(use())


def test_observers_do_not_hold_up_the_event_loop(guard: Guard, made: Any) -> None:
    """An observer waits for what the loop does next, and closing waits for the observer."""
    ticked, records = threading.Event(), []

    def observe(record: dict[str, Any]) -> None:
        records.append((ticked.wait(30), record["outcome"]))

    guard.observe(observe)

    async def serve() -> None:
        async with AsyncGuard(guard, made, max_wait_ms=0) as service:
            task = asyncio.create_task(service.generate("a cat", seed=1, **STEPS))
            while not service._requests and not task.done():
                await asyncio.sleep(0.01)
            while service._requests:
                await asyncio.sleep(0.01)
            ticked.set()
        assert len(records) == 1
        await task

    asyncio.run(serve())
    assert records == [(True, "completed")]


def test_threads_end_after_the_last_request_though_closing_was_cancelled(guard: Guard, made: Any) -> None:
    drawing, leave = threading.Event(), threading.Event()

    def hook(*_: Any) -> None:
        drawing.set()
        leave.wait(30)

    made.unet.register_forward_hook(hook)

    async def serve() -> Result:
        service = await AsyncGuard(guard, made, max_wait_ms=0).__aenter__()
        task = asyncio.create_task(service.generate("a cat", seed=1, **STEPS))
        assert await asyncio.to_thread(drawing.wait, 30)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(service.close(), 0.05)
        leave.set()
        result = await task
        await asyncio.to_thread(service._generating.join, 30)
        assert not service._generating.is_alive()
        return result

    assert isinstance(asyncio.run(serve()), Result)
