"""The guard for a service: concurrent requests, batched into shared calls of one pipeline."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from safelight.concurrency.deadline import Deadline
from safelight.errors import DeadlineError, ModelError, QueueFullError, RequestError
from safelight.guard.batch_queue import BatchQueue, Job
from safelight.guard.generation import Generation
from safelight.guard.guard import Guard
from safelight.guard.pipeline_call import GeneratedImages, PlannedImages, generate_images
from safelight.policy import Policy
from safelight.protocols import Pipeline
from safelight.types import Result

T = TypeVar("T")


class AsyncGuard:
    """Serves concurrent requests with one pipeline; use it as an asynchronous context manager.

    Requests with equal call arguments (size, number of steps, guidance scale and so on) share one call of the
    pipeline, of up to ``max_batch`` images; every image keeps its own prompt, seed, guidance and policy. A
    request waits up to ``max_wait_ms`` milliseconds for others to join it. At most ``queue`` requests are
    admitted at a time; a further one raises ``QueueFullError``.

    A request gets the same images as if it were served alone, up to rounding errors of at most 2 of 255 in a
    pixel, which depend on the number of images in a call. With ``fixed_batch`` every call generates
    ``max_batch`` images, some of which may be discarded; the result is then bit for bit the same whatever
    other requests are served, at the cost of longer calls under low load.
    """

    def __init__(
        self,
        guard: Guard,
        pipe: Pipeline,
        *,
        max_batch: int = 16,
        max_wait_ms: float = 20.0,
        queue: int = 64,
        fixed_batch: bool = False,
    ) -> None:
        for name, value in (("max_batch", max_batch), ("queue", queue)):
            if not isinstance(value, int) or value < 1:
                raise RequestError(f"{name} is {value!r}; give a whole number that is at least 1.")
        if not isinstance(max_wait_ms, int | float) or not 0 <= max_wait_ms < 1e6:
            raise RequestError(f"max_wait_ms is {max_wait_ms!r}; give milliseconds, at least 0.")
        self.guard = guard
        self.pipe = pipe
        self.queue = queue
        self.fixed_batch = fixed_batch
        self._batches = BatchQueue(max_batch, max_wait_ms / 1000)
        self._screening = ThreadPoolExecutor(queue, "safelight-screening")
        self._generating = threading.Thread(
            target=self._generate_batches, name="safelight-generating", daemon=True
        )
        self._requests: set[Deadline] = set()
        self._present = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        if self._loop or self._closed:
            raise RequestError("an AsyncGuard can be opened only once; create a new one.")
        self._loop = asyncio.get_running_loop()
        self._generating.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def generate(
        self,
        prompt: str | Sequence[str],
        n: int = 1,
        seed: int | None = None,
        *,
        policy: Policy | None = None,
        deadline_s: float | None = None,
        **arguments: Any,
    ) -> Result:
        """Generate images as ``Guard.generate`` does.

        A ``policy`` with the same filters replaces the guard's for this request. The request may take
        ``deadline_s`` seconds, including the time in the queue, and can be cancelled like any task: the
        pipeline stops working on it at its next step. Raises what ``Guard.generate`` raises, and
        ``QueueFullError``.
        """
        log = self.guard.request_log.under(policy)
        with self._counted():
            async with log.watch_async("generate", prompt, arguments) as watched:
                with self._admitted(deadline_s) as deadline:
                    prepare = partial(self._prepare, policy, deadline, prompt, n, seed, arguments)
                    watched.result = await self._in_time(deadline, prepare)
            return watched.result

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count a request until its record is written; the last one ends the threads of a closed guard."""
        if self._loop not in (None, asyncio.get_running_loop()):
            raise RequestError("the guard was opened in another event loop; open one in each.")
        self._present += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._present -= 1
            self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._present:
            return
        self._idle.set()
        if self._closed:
            self._batches.close()
            self._screening.shutdown(wait=False)

    @contextmanager
    def _admitted(self, deadline_s: float | None) -> Iterator[Deadline]:
        """Admit the request to the queue. Raises ``QueueFullError`` if the queue is full."""
        if self._closed or not self._generating.is_alive():
            raise RequestError("the guard is not open; use it inside `async with`.")
        if len(self._requests) >= self.queue:
            raise QueueFullError(f"the queue of {self.queue} requests is full; try again later.")
        deadline = Deadline(deadline_s)
        self._requests.add(deadline)
        try:
            yield deadline
        finally:
            deadline.cancel()
            self._requests.discard(deadline)

    async def close(self, timeout_s: float | None = None) -> None:
        """Reject new requests, finish those that were admitted, and end the threads.

        After ``timeout_s`` seconds, unfinished requests are cancelled: their callers get
        ``RequestCancelledError``. If ``close`` is itself cancelled, the threads end after the last request.
        """
        self._closed = True
        self._end_if_idle()
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            for deadline in self._requests:
                deadline.cancel()
            self._batches.wake()
            await self._idle.wait()
        if self._generating.is_alive():
            await asyncio.to_thread(self._generating.join)

    async def _in_time(self, deadline: Deadline, prepare: Callable[[], Generation]) -> Result:
        limit = None if deadline.seconds == float("inf") else deadline.remaining()
        try:
            async with asyncio.timeout(limit) as timer:
                return await self._answer(prepare)
        except TimeoutError:
            if not timer.expired():
                raise
            deadline.check()
            raise DeadlineError(f"the request took longer than {deadline.seconds:g} s.") from None

    async def _answer(self, prepare: Callable[[], Generation]) -> Result:
        generation = await self._run(prepare)
        planned = await self._run(generation.begin)
        while planned:
            generated = await asyncio.gather(*map(self._generate, planned))
            planned = await self._run(partial(generation.accept, generated))
        return await self._run(generation.finish)

    def _prepare(
        self,
        policy: Policy | None,
        deadline: Deadline,
        prompt: str | Sequence[str],
        n: int,
        seed: int | None,
        arguments: dict[str, Any],
    ) -> Generation:
        guard = self.guard.with_policy(policy) if policy else self.guard
        generation = guard.prepare(self.pipe, prompt, n, seed, deadline, **arguments)
        generation.max_cost = self._batches.max_batch
        return generation

    async def _run(self, work: Callable[[], T]) -> T:
        """Run blocking work in a thread, so that filters do not block the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._screening, work)

    async def _generate(self, planned: PlannedImages) -> GeneratedImages:
        job = Job(planned)
        self._batches.put(job)
        return await asyncio.wrap_future(job.outcome)

    def _generate_batches(self) -> None:
        while (jobs := self._batches.take()) is not None:
            self._generate_jobs(jobs)
            del jobs  # otherwise the thread would keep their images in memory until the next batch

    def _generate_jobs(self, jobs: Sequence[Job]) -> None:
        try:
            planned = [job.planned for job in jobs]
            generated = generate_images(self.pipe, planned, self._batch(jobs)) if jobs else []
        except BaseException as error:  # noqa: BLE001 - it is raised again, to the caller
            self._fail(jobs, error)
        else:
            for job, each in zip(jobs, generated, strict=True):
                job.outcome.set_result(each)

    def _fail(self, jobs: Sequence[Job], error: BaseException) -> None:
        """Deliver the error of a single job; run several jobs again separately, so that only one fails."""
        if len(jobs) == 1:
            jobs[0].outcome.set_exception(_failure(error))
            return
        for job in jobs:
            self._generate_jobs([job])

    def _batch(self, jobs: Sequence[Job]) -> int | None:
        """Return the fixed number of images per call; None if a call makes as many as were planned."""
        joined = jobs[0].planned.compatible() is not None
        return self._batches.max_batch if self.fixed_batch and joined else None


def _failure(error: BaseException) -> Exception:
    """Return an error that an event loop can deliver; other exceptions would end the loop or be lost."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    failure = ModelError(f"the pipeline raised {type(error).__name__}; correct the pipeline.")
    failure.__cause__ = error
    return failure
