"""Parallel execution of several long jobs, each in its own process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from multiprocessing import active_children, get_context
from typing import TypeVar

from safelight.concurrency.thread_count import thread_count
from safelight.concurrency.workers import begin_worker

T = TypeVar("T")


def side_by_side(
    jobs: Mapping[str, Callable[[], T]], watch: Callable[[], None] | None = None, every_s: float = 2.0
) -> dict[str, T]:
    """Run the jobs in parallel processes, and return their results by name; jobs must be picklable.

    Several trainings run faster with one core each than one after the other on all cores. ``watch`` is called
    every ``every_s`` seconds. If a job fails, all others are stopped and its error is raised.
    """
    others = active_children()
    with ProcessPoolExecutor(len(jobs), get_context("spawn"), _begin) as pool:
        running = {name: pool.submit(job) for name, job in jobs.items()}
        workers = [child for child in active_children() if child not in others]
        try:
            while wait(running.values(), every_s, FIRST_EXCEPTION).not_done:
                for each in running.values():
                    if each.done():
                        each.result()
                if watch:
                    watch()
            return {name: each.result() for name, each in running.items()}
        except BaseException:
            for process in workers:
                process.terminate()
            raise


def _begin() -> None:
    import torch

    begin_worker()
    torch.set_num_threads(thread_count())
