"""The local engine: worker processes on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from queue import Empty, SimpleQueue

from safelight.safe_training.cleaning.sample import Shard
from safelight.safe_training.cleaning.worker import Task, Worker

# Called with the number of a shard and how many of its samples are done.
Progress = Callable[[int, int], None]


def run_local(task: Task, shards: Mapping[int, Shard], workers: int, progress: Progress) -> None:
    """Screen ``shards``, by number; each worker takes the next one. Raises as ``Worker.screen``."""
    waiting: SimpleQueue[int] = SimpleQueue()
    for number in shards:
        waiting.put(number)
    team = [Worker(task) for _ in range(min(workers, len(shards)))]

    def work(worker: Worker) -> None:
        try:
            while True:
                number = waiting.get_nowait()
                worker.screen(number, shards[number], partial(progress, number))
        except Empty:
            return

    with ThreadPoolExecutor(max(1, len(team))) as pool:
        try:
            jobs = [pool.submit(work, worker) for worker in team]
            done, _ = wait(jobs, return_when=FIRST_EXCEPTION)
            for job in done:
                job.result()
        finally:
            while not waiting.empty():
                waiting.get_nowait()
            for worker in team:
                worker.stop()
