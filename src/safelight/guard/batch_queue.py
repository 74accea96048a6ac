"""The queue in which drawings of different requests wait to become one call of the pipeline."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from safelight.guard.drawing import Drawing, Drawn


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A drawing that waits, and where its outcome is delivered."""

    drawing: Drawing
    outcome: Future[Drawn] = field(default_factory=Future)
    queued_at: float = field(default_factory=time.monotonic)

    @property
    def kind(self) -> Hashable:
        """Return a key that jobs of one call have in common; a job that stays alone has its own."""
        same = self.drawing.compatible()
        return self if same is None else (same, self.drawing.steered)


class BatchQueue:
    """Gives batches of compatible jobs, whose cost together is at most ``max_batch``.

    Two lines wait side by side, jobs whose images are steered and jobs whose images are not. Each is served
    in the order of arrival, and they take turns: so neither kind of request holds up the other for more than
    a batch, and the calls of harmless requests take no longer than they would without the others. A job waits
    up to ``max_wait_s`` for others to join.
    """

    def __init__(self, max_batch: int, max_wait_s: float) -> None:
        self.max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._condition = threading.Condition()
        self._jobs: list[Job] = []
        self._steered_turn = False
        self._closed = False

    def put(self, job: Job) -> None:
        with self._condition:
            self._jobs.append(job)
            self._condition.notify_all()

    def wake(self) -> None:
        """Look again whether anybody still waits for the jobs."""
        with self._condition:
            self._condition.notify_all()

    def close(self) -> None:
        """Jobs that are waiting are still given; then ``take`` ends."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def take(self) -> list[Job] | None:
        """Wait for a batch; None once the queue is closed and empty."""
        with self._condition:
            while True:
                self._drop_abandoned()
                if not self._jobs and self._closed:
                    return None
                batch = self._next_batch()
                patience_s = self._patience_s(batch)
                if batch and patience_s <= 0:
                    return self._remove(batch)
                self._condition.wait(patience_s if batch else None)

    def _drop_abandoned(self) -> None:
        """Jobs that nobody waits for any more get an empty outcome."""
        for job in [each for each in self._jobs if each.drawing.over]:
            self._jobs.remove(job)
            if job.outcome.set_running_or_notify_cancel():
                job.outcome.set_result(Drawn(job.drawing.plans))

    def _next_batch(self) -> list[Job]:
        """The jobs that would be given now."""
        first = self._next(self._steered_turn) or self._next(not self._steered_turn)
        if first is None:
            return []
        batch, cost = [first], first.drawing.cost
        for job in self._jobs:
            if job is not first and job.kind == first.kind and cost + job.drawing.cost <= self.max_batch:
                batch.append(job)
                cost += job.drawing.cost
        return batch

    def _next(self, steered: bool) -> Job | None:
        """The job of a line that has waited longest."""
        return next((job for job in self._jobs if job.drawing.steered is steered), None)

    def _patience_s(self, batch: Sequence[Job]) -> float:
        full = sum(job.drawing.cost for job in batch) >= self.max_batch
        if not batch or full or self._closed:
            return 0.0
        return min(job.queued_at for job in batch) + self._max_wait_s - time.monotonic()

    def _remove(self, batch: list[Job]) -> list[Job]:
        self._steered_turn = not batch[0].drawing.steered
        self._jobs = [job for job in self._jobs if job not in batch]
        return [job for job in batch if job.outcome.set_running_or_notify_cancel()]
