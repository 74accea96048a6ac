from __future__ import annotations

import os

import pytest

from safelight.concurrency.thread_count import thread_count


@pytest.mark.parametrize(("limit", "count"), [("3", 3), ("", 8), ("0", 8), ("4,2", 8), ("many", 8)])
def test_a_limit_that_is_one_counts(limit: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert thread_count() == count
