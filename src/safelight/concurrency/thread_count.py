"""How many threads a filter works on: one a core, or as many as OMP_NUM_THREADS says."""

from __future__ import annotations

import os

_LIMIT = "OMP_NUM_THREADS"


def cores() -> int:
    """For this process; at least one."""
    limit = os.environ.get(_LIMIT, "")
    return (int(limit) if limit.isdecimal() else 0) or os.cpu_count() or 1


def share_cores() -> None:
    """This process is one of as many as there are cores, so one is its own; what is loaded later knows it."""
    os.environ[_LIMIT] = "1"
