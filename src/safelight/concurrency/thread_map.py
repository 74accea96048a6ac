"""A map on several threads, for work that releases the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TypeVar

from safelight.concurrency.thread_count import thread_count

Item = TypeVar("Item")
Result = TypeVar("Result")


class ThreadMap:
    """Calls a function on each of several items, on ``threads`` threads; by default one per CPU core.

    The threads start with the first call that has more than one item, and are kept for the next one.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._count = threads or thread_count()

    def __call__(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        alone = min(len(items), self._count) < 2
        return list(map(function, items) if alone else self._pool.map(function, items))

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._count)
