"""Requests that run at the same time on one pipeline get what they would get alone."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import family
from safelight.alignment.delta.delta import Delta, Provenance, part_sha256
from safelight.errors import DeadlineError, QueueFullError, RequestCancelledError, RequestError
from safelight.guard.async_guard import AsyncGuard
from safelight.guard.guard import Guard
from safelight.policy import Policy
from safelight.types import Finding, Result

SIZE = {"height": 16, "width": 16}
STEPS = {"num_inference_steps": 6, **SIZE}
GUIDANCE = """[guidance]
review = "sld-medium"
steer = ["prompt-projection", "sld-strong"]
concepts = { gun = "a gun" }

[early_stop]
at = [0.5]
score = 0.9

[filters]"""
PROMPTS = ["a cat", "a dog in the park", "review a gun", "steer a gun", "a cow", "block a gun"]


class Ear:
    """Detects a gun in a prompt, with the score that its first word stands for."""

    name, version = "ear", "1"
    scores: ClassVar = {"review": 0.4, "steer": 0.6, "block": 0.9}

    def find(self, prompts: Sequence[str]) -> list[list[Finding]]:
        scores = [self.scores.get(prompt.split()[0], 0.0) for prompt in prompts]
        return [[Finding("gun", score, self.name)] for score in scores]


class Eye:
    """Detects a gun in images whose first pixel is bright: what it says depends on the image alone."""

    name, version = "eye", "1"

    def find(self, images: Sequence[Image.Image]) -> list[list[Finding]]:
        bright = [np.asarray(image.resize((2, 2), Image.Resampling.BOX))[0, 0, 0] > 150 for image in images]
        return [[Finding("gun", 0.95, self.name)] if each else [] for each in bright]


@pytest.fixture
def steering(write_policy: Callable[..., Path]) -> Guard:
    prompt = "{ review = 0.3, steer = 0.5, block = 0.8 }"
    path = write_policy(("[filters]", GUIDANCE), ("{ review = 0.3, block = 0.8 }", prompt))
    return Guard(Policy.load(path), {"prompt": [Ear], "image": [Eye]})


def _pixels(result: Result) -> dict[int, Any]:
    images = map(np.asarray, result.images)
    return dict(zip(result.indices, (image.astype(int) for image in images), strict=True))


def _says(result: Result) -> list[Any]:
    attempts = {n: [tried.guidance for tried in tries] for n, tries in result.attempts.items()}
    return [[(v.subject, v.index, v.action) for v in result.verdicts], attempts, result.truncated_tokens]


def _same(one: Result, other: Result, within: int = 0) -> bool:
    a, b = _pixels(one), _pixels(other)
    near = (
        all(np.abs(a[number] - b[number]).max() <= within for number in a) if a.keys() == b.keys() else False
    )
    return near and _says(one) == _says(other)


FAMILIES = ["sd", "sdxl", "flux"]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.filterwarnings("ignore")
def test_threads_that_share_a_pipeline_do_not_change_each_other(
    name: str, steering: Guard, pipe: Any
) -> None:
    made, options, _ = family(name, pipe)
    requests = [(PROMPTS[i % len(PROMPTS)], 1 + i % 2, 10 * i) for i in range(12)]

    def answer(request: tuple[str, int, int]) -> Result:
        prompt, n, seed = request
        return steering.generate(made, prompt, n=n, seed=seed, **STEPS, **options)

    alone = [answer(request) for request in requests]
    assert any(result.attempts for result in alone), "some were steered"
    assert {"allow", "block"} <= {str(result.action) for result in alone}
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(answer, requests))
    assert all(_same(one, other) for one, other in zip(alone, together, strict=True))


def test_pipelines_that_share_their_weights_do_not_change_each_other(steering: Guard, pipe: Any) -> None:
    """The usual remedy, a pipeline with a scheduler of its own for each request, is right as well; and so is
    a bare pipeline beside them."""
    import copy

    made, _, _ = family("sd", pipe)

    def own() -> Any:
        parts = {**made.components, "scheduler": copy.deepcopy(made.scheduler)}
        other = type(made)(**parts, requires_safety_checker=False)
        other.set_progress_bar_config(disable=True)
        return other

    def bare(seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        return np.asarray(own()("a cat", generator=generator, **STEPS).images[0])

    expected = bare(1)
    steered = steering.generate(made, "review a gun", seed=1, **STEPS)
    with ThreadPoolExecutor(6) as pool:
        guarded = [pool.submit(steering.generate, own(), "review a gun", seed=1, **STEPS) for _ in range(6)]
        plain = [pool.submit(bare, 1) for _ in range(6)]
    assert all(np.array_equal(each.result(), expected) for each in plain)
    assert all(_same(each.result(), steered) for each in guarded)


def test_a_guarded_call_leaves_the_tokenizer_to_others(steering: Guard, pipe: Any) -> None:
    """A tokenizer keeps its padding and truncation as state, which a bare call beside the guard would see."""
    made, _, _ = family("sd", pipe)
    long = "review " + "a gun and a cat " * 4
    made("a cat", **STEPS)
    before = made.tokenizer.backend_tokenizer.padding, made.tokenizer.backend_tokenizer.truncation
    assert all(before)
    result = steering.generate(made, long, seed=1, **STEPS)
    assert result.attempts
    assert result.truncated_tokens[0] > 0
    now = made.tokenizer.backend_tokenizer.padding, made.tokenizer.backend_tokenizer.truncation
    assert now == before
    made.tokenizer.model_max_length -= 1
    try:
        assert steering.generate(made, long, seed=1, **STEPS).truncated_tokens == (
            result.truncated_tokens[0] + 1,
        )
    finally:
        made.tokenizer.model_max_length += 1


def test_deltas_of_one_request_do_not_reach_another(
    write_policy: Callable[..., Path], tmp_path: Path, pipe: Any
) -> None:
    made, _, _ = family("sd", pipe)
    difference = torch.zeros_like(made.unet.conv_out.bias)
    difference[1] = 3.0
    about = Provenance("test", ("a gun",), "tiny", {"unet": part_sha256(made, "unet")})
    Delta.of({"unet.conv_out.bias": difference}, about).save(tmp_path / "gun.safetensors")
    table = (
        '[guidance]\nreview = "erasure"\nconcepts = { gun = "a gun" }\ndeltas = { gun = "gun.safetensors" }'
    )
    policy = Policy.load(write_policy(("[filters]", f"{table}\n\n[filters]")))
    guard = Guard(policy, {"prompt": [Ear], "image": [Eye]})
    before = {name: parameter.clone() for name, parameter in made.unet.named_parameters()}

    def answer(number: int) -> Result:
        prompt = "review a gun" if number % 2 else "a cat"
        return guard.generate(made, prompt, seed=number // 2, **STEPS)

    alone = [answer(number) for number in range(8)]
    assert not np.array_equal(_pixels(alone[0])[0], _pixels(alone[1])[0])
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(answer, range(8)))
    assert all(_same(one, other) for one, other in zip(alone, together, strict=True))
    assert all(torch.equal(before[name], parameter) for name, parameter in made.unet.named_parameters())


async def _ask(service: AsyncGuard, requests: Sequence[tuple[str, int, int]], **options: Any) -> list[Result]:
    asked = (service.generate(prompt, n, seed, **STEPS, **options) for prompt, n, seed in requests)
    return list(await asyncio.gather(*asked))


@pytest.mark.parametrize("fixed_batch", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.filterwarnings("ignore")
def test_requests_that_share_a_batch_do_not_change_each_other(
    name: str, fixed_batch: bool, steering: Guard, pipe: Any
) -> None:
    made, options, _ = family(name, pipe)
    requests = [(PROMPTS[i % len(PROMPTS)], 1 + i % 2, 10 * i) for i in range(12)]

    async def serve() -> tuple[list[Result], list[Result]]:
        async with AsyncGuard(
            steering, made, max_batch=6, max_wait_ms=200, fixed_batch=fixed_batch
        ) as service:
            together = await _ask(service, requests, **options)
            alone = [(await _ask(service, [request], **options))[0] for request in requests[:6]]
        return together, alone

    together, alone = asyncio.run(serve())
    assert all(_same(one, other, 0 if fixed_batch else 2) for one, other in zip(together, alone))  # noqa: B905
    if not fixed_batch:
        each = [steering.generate(made, p, n=n, seed=s, **STEPS, **options) for p, n, s in requests]
        assert all(_same(one, other, 2) for one, other in zip(together, each, strict=True))


def test_callers_keep_their_own_policies_and_arguments(steering: Guard, pipe: Any) -> None:
    made, _, _ = family("sd", pipe)
    strict = steering.policy.model_copy(update={"name": "strict", "guidance": None})

    async def serve() -> list[Result]:
        async with AsyncGuard(steering, made, max_batch=4, max_wait_ms=200) as service:
            return list(
                await asyncio.gather(
                    service.generate("review a gun", seed=1, **STEPS),
                    service.generate("review a gun", seed=1, policy=strict, **STEPS),
                    service.generate("a cat", seed=1, negative_prompt="a dog", **STEPS),
                    service.generate("a cat", seed=1, num_inference_steps=3, **SIZE),
                    service.generate("a cat", n=9, seed=1, **STEPS),
                )
            )

    results = asyncio.run(serve())
    assert [len(result.images) + len(result.stopped) for result in results][:4] == [1, 1, 1, 1]
    assert results[0].attempts
    assert not results[1].attempts
    assert results[1].verdicts[0].policy == strict.id
    alone = [
        steering.generate(made, "review a gun", seed=1, **STEPS),
        steering.with_policy(strict).generate(made, "review a gun", seed=1, **STEPS),
        steering.generate(made, "a cat", seed=1, negative_prompt="a dog", **STEPS),
        steering.generate(made, "a cat", seed=1, num_inference_steps=3, **SIZE),
        steering.generate(made, "a cat", n=9, seed=1, **STEPS),
    ]
    assert all(_same(one, other, 2) for one, other in zip(results, alone, strict=True))


class Gate:
    """An image filter that waits until it is opened; counts the evaluations of a network meanwhile."""

    name, version = "gate", "1"

    def __init__(self) -> None:
        self.open = threading.Event()

    def find(self, images: Sequence[Image.Image]) -> list[list[Finding]]:
        self.open.wait(10)
        return [[] for _ in images]


def _steps(made: Any, at: int, then: Callable[[], None]) -> list[int]:
    """Calls ``then`` in evaluation number ``at`` of the network, and counts them all."""
    counted: list[int] = []

    def hook(*_: Any) -> None:
        counted.append(1)
        if len(counted) == at:
            then()

    made.unet.register_forward_hook(hook)
    return counted


def test_a_cancelled_request_stops_within_two_steps(steering: Guard, pipe: Any) -> None:
    made, _, _ = family("sd", pipe)

    async def serve() -> list[int]:
        async with AsyncGuard(steering, made, max_wait_ms=0) as service:
            request = asyncio.create_task(service.generate("a cat", seed=1, num_inference_steps=50, **SIZE))
            loop, stopped = asyncio.get_running_loop(), threading.Event()

            def cancel() -> None:
                loop.call_soon_threadsafe(request.cancel)
                request.add_done_callback(lambda _: stopped.set())
                stopped.wait(10)

            counted = _steps(made, 5, cancel)
            with pytest.raises(asyncio.CancelledError):
                await request
            return counted

    assert len(asyncio.run(serve())) <= 7


def test_a_deadline_stops_the_denoising(steering: Guard, pipe: Any) -> None:
    made, _, _ = family("sd", pipe)
    counted = _steps(made, 3, lambda: time.sleep(1.2))
    with pytest.raises(DeadlineError, match=r"longer than its deadline of 1 s"):
        steering.generate(made, "a cat", seed=1, num_inference_steps=50, deadline_s=1, **SIZE)
    assert len(counted) <= 3


def test_a_request_that_waits_for_its_turn_has_a_deadline_too(steering: Guard, pipe: Any) -> None:
    made, _, _ = family("sd", pipe)
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        leave.wait(10)

    _steps(made, 1, hold)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(steering.generate, made, "a cat", seed=1, **STEPS)
        assert inside.wait(10)
        with pytest.raises(DeadlineError):
            steering.generate(made, "a dog", seed=1, deadline_s=0.3, **STEPS)
        leave.set()
        assert len(first.result().images) + len(first.result().stopped) == 1


def test_too_many_requests_are_refused_and_the_others_answered(steering: Guard, pipe: Any) -> None:
    made, _, _ = family("sd", pipe)

    async def serve() -> list[Any]:
        async with AsyncGuard(steering, made, queue=3, max_wait_ms=0) as service:
            asked = (service.generate("a cat", seed=i, **STEPS) for i in range(5))
            return list(await asyncio.gather(*asked, return_exceptions=True))

    answers = asyncio.run(serve())
    assert [type(answer) for answer in answers] == [Result] * 3 + [QueueFullError] * 2


def test_closing_finishes_what_is_there(steering: Guard, pipe: Any) -> None:
    made, _, _ = family("sd", pipe)

    async def serve() -> list[Result]:
        service = AsyncGuard(steering, made, max_batch=2, max_wait_ms=0)
        async with service:
            tasks = [asyncio.create_task(service.generate("a cat", seed=i, **STEPS)) for i in range(4)]
            await asyncio.sleep(0)
        with pytest.raises(RequestError, match="not open"):
            await service.generate("a cat", **STEPS)
        assert all(task.done() for task in tasks)
        return [task.result() for task in tasks]

    assert len(asyncio.run(serve())) == 4
    assert not [thread for thread in threading.enumerate() if thread.name == "safelight-generating"]


def test_closing_in_a_hurry_cancels_what_is_there(write_policy: Callable[..., Path], pipe: Any) -> None:
    made, _, _ = family("sd", pipe)
    gate = Gate()
    guard = Guard(Policy.load(write_policy()), {"prompt": [Ear], "image": [lambda: gate]})

    async def serve() -> BaseException | None:
        service = AsyncGuard(guard, made, max_wait_ms=0)
        async with service:
            task = asyncio.create_task(service.generate("a cat", seed=1, num_inference_steps=500, **SIZE))
            await asyncio.sleep(0.5)
            gate.open.set()
            await service.close(timeout_s=0.01)
            return (await asyncio.gather(task, return_exceptions=True))[0]

    assert isinstance(asyncio.run(serve()), RequestCancelledError)


def test_an_error_of_one_request_is_not_that_of_others(steering: Guard, pipe: Any) -> None:
    """The tokenizer of the pipeline breaks at one prompt."""
    made, _, _ = family("sd", pipe)
    encode = made.encode_prompt

    def breaking(prompt: list[str], *args: Any, **kwargs: Any) -> Any:
        if "odd" in prompt:
            raise KeyError("odd")
        return encode(prompt, *args, **kwargs)

    made.encode_prompt = breaking

    async def serve() -> list[Any]:
        async with AsyncGuard(steering, made, max_batch=4, max_wait_ms=300) as service:
            asked = (service.generate(prompt, seed=1, **STEPS) for prompt in ("a cat", "odd", "a dog"))
            return list(await asyncio.gather(*asked, return_exceptions=True))

    cat, odd, dog = asyncio.run(serve())
    assert isinstance(odd, KeyError)
    assert _same(cat, steering.generate(made, "a cat", seed=1, **STEPS), 2)
    assert _same(dog, steering.generate(made, "a dog", seed=1, **STEPS), 2)


@pytest.mark.parametrize("options", [{"max_batch": 0}, {"queue": 0}, {"max_batch": 1.5}, {"max_wait_ms": -1}])
def test_limits_that_make_no_sense_are_refused(options: dict[str, Any], steering: Guard, pipe: Any) -> None:
    with pytest.raises(RequestError):
        AsyncGuard(steering, pipe, **options)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", [*FAMILIES, "storybook"])
@pytest.mark.filterwarnings("ignore")
def test_five_hundred_requests_get_what_they_would_get_alone(name: str, steering: Guard, pipe: Any) -> None:
    """16 threads; then 64 tasks that share batches freely, and batches of a fixed size."""
    made, options, prompts = pipe, {}, PROMPTS
    if name == "storybook":
        made, steering, prompts = _storybook()
        options = {"height": 64, "width": 64}
    else:
        made, options, _ = family(name, pipe)
    call = {**STEPS, **options}
    kinds = [(prompts[i % len(prompts)], 1 + (i // 6) % 2, 7 * i) for i in range(30)]
    requests = [kinds[(37 * i) % 30] for i in range(500)]

    def answer(request: tuple[str, int, int]) -> Result:
        prompt, n, seed = request
        return steering.generate(made, prompt, n=n, seed=seed, **call)

    alone = {kind: answer(kind) for kind in kinds}
    assert any(result.attempts for result in alone.values())
    assert {"allow", "block"} <= {str(result.action) for result in alone.values()}
    with ThreadPoolExecutor(16) as pool:
        threads = list(pool.map(answer, requests))
    assert all(_same(alone[kind], result) for kind, result in zip(requests, threads, strict=True))

    async def serve(kinds: Sequence[tuple[str, int, int]], tasks: int, fixed_batch: bool) -> list[Result]:
        free = asyncio.Semaphore(tasks)

        async def ask(prompt: str, n: int, seed: int) -> Result:
            async with free:
                return await service.generate(prompt, n, seed, **call)

        async with AsyncGuard(steering, made, fixed_batch=fixed_batch) as service:
            return list(await asyncio.gather(*(ask(*kind) for kind in kinds)))

    batched = asyncio.run(serve(requests, 64, False))
    assert all(_same(alone[kind], result, 2) for kind, result in zip(requests, batched, strict=True))
    fixed = dict(zip(kinds, asyncio.run(serve(kinds, 1, True)), strict=True))
    batched = asyncio.run(serve(requests, 64, True))
    assert all(_same(fixed[kind], result) for kind, result in zip(requests, batched, strict=True))


def _storybook() -> tuple[Any, Guard, list[str]]:
    """The embedded model, with a policy that steers what its words ask for as well."""
    import safelight

    made = safelight.load_pipeline("storybook")
    made.set_progress_bar_config(disable=True)
    guard = Guard.from_policy("storybook")
    rules = dict(guard.policy.categories)
    prompt = rules["violence"].prompt.model_copy(update={"steer": 0.5, "block": None})
    rules["violence"] = rules["violence"].model_copy(update={"prompt": prompt})
    steered = guard.with_policy(guard.policy.model_copy(update={"categories": rules}))
    harmful = ["a knife and a woman", "a sword and a pirate", "a gun", "a child at a campfire"]
    return made, steered, ["a dog in the park", "a red apple", *harmful]
