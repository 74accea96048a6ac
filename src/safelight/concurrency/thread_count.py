"""The number of threads that a filter uses: one per CPU core, or the value of OMP_NUM_THREADS."""

from __future__ import annotations

import os

_LIMIT = "OMP_NUM_THREADS"


def thread_count() -> int:
    """Return the number of threads for this process, at least one."""
    limit = os.environ.get(_LIMIT, "")
    return (int(limit) if limit.isdecimal() else 0) or os.cpu_count() or 1


def limit_to_one_thread() -> None:
    """Limit this process to one thread, for use in worker processes of which there is one per CPU core.

    It sets OMP_NUM_THREADS, which affects only libraries that are loaded later.
    """
    os.environ[_LIMIT] = "1"
