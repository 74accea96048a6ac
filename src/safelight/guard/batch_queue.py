"""The queue in which images of different requests wait to be generated in one call of the pipeline."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from safelight.guard.pipeline_call import GeneratedImages, PlannedImages


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Planned images in the queue, and the future that receives their outcome."""

    planned: PlannedImages
    outcome: Future[GeneratedImages] = field(default_factory=Future)
    queued_at: float = field(default_factory=time.monotonic)

    @property
    def kind(self) -> Hashable:
        """A key that is equal for jobs that can share a call; unique if the job cannot share one."""
        same = self.planned.compatible()
        return self if same is None else (same, self.planned.guided)


class BatchQueue:
    """Groups compatible jobs into batches whose total cost is at most ``max_batch``.

    Jobs with guided images and jobs without wait in separate queues. Each queue is served in the order of
    arrival, and the two alternate: neither kind of request delays the other by more than one batch, and the
    calls of harmless requests take no longer than if there were no guided ones. A job waits up to
    ``max_wait_s`` seconds for others to join.
    """

    def __init__(self, max_batch: int, max_wait_s: float) -> None:
        self.max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._condition = threading.Condition()
        self._jobs: list[Job] = []
        self._guided_turn = False
        self._closed = False

    def put(self, job: Job) -> None:
        with self._condition:
            self._jobs.append(job)
            self._condition.notify_all()

    def wake(self) -> None:
        """Check again which jobs were abandoned."""
        with self._condition:
            self._condition.notify_all()

    def close(self) -> None:
        """Close the queue: ``take`` still returns the waiting jobs, and then None."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def take(self) -> list[Job] | None:
        """Wait for a batch and return it; return None once the queue is closed and empty."""
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
        """Give an empty outcome to jobs whose images are no longer needed."""
        for job in [each for each in self._jobs if each.planned.over]:
            self._jobs.remove(job)
            if job.outcome.set_running_or_notify_cancel():
                job.outcome.set_result(GeneratedImages(job.planned.plans))

    def _next_batch(self) -> list[Job]:
        """Return the jobs that would form a batch at this moment."""
        first = self._next(self._guided_turn) or self._next(not self._guided_turn)
        if first is None:
            return []
        batch, cost = [first], first.planned.cost
        for job in self._jobs:
            if job is not first and job.kind == first.kind and cost + job.planned.cost <= self.max_batch:
                batch.append(job)
                cost += job.planned.cost
        return batch

    def _next(self, guided: bool) -> Job | None:
        """Return the job that has waited longest in one of the two queues."""
        return next((job for job in self._jobs if job.planned.guided is guided), None)

    def _patience_s(self, batch: Sequence[Job]) -> float:
        full = sum(job.planned.cost for job in batch) >= self.max_batch
        if not batch or full or self._closed:
            return 0.0
        return min(job.queued_at for job in batch) + self._max_wait_s - time.monotonic()

    def _remove(self, batch: list[Job]) -> list[Job]:
        self._guided_turn = not batch[0].planned.guided
        self._jobs = [job for job in self._jobs if job not in batch]
        return [job for job in batch if job.outcome.set_running_or_notify_cancel()]
