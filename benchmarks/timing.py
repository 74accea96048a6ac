"""Timings that compare: on as many cores, from the same clock."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def cores(count: int) -> Iterator[None]:
    """Where the system can, nothing runs on any other than the first ``count``."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    there = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(there)[:count]))
    try:
        yield
    finally:
        os.sched_setaffinity(0, there)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
