"""Timings that compare: on as many cores, from the same clock."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def cores(count: int) -> Iterator[None]:
    """Restrict the process to the first ``count`` cores, where the system supports it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    there = os.sched_getaffinity(0)
    _keep_to(set(sorted(there)[:count]))
    try:
        yield
    finally:
        _keep_to(there)


def _keep_to(cores: set[int]) -> None:
    """For every thread there is: a pool's would otherwise stay for good where they were started."""
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
