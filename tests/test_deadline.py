from __future__ import annotations

import math
import threading
from typing import Any

import pytest

from safelight.concurrency.deadline import Deadline
from safelight.errors import DeadlineError, RequestCancelledError, RequestError


def test_without_a_limit_there_is_always_time() -> None:
    deadline = Deadline()
    deadline.check()
    assert deadline.remaining() == math.inf
    assert not deadline.passed


def test_a_passed_deadline_raises() -> None:
    deadline = Deadline(1e-9)
    assert deadline.passed
    assert deadline.remaining() == 0.0
    with pytest.raises(DeadlineError, match=r"longer than its deadline of 1e-09 s"):
        deadline.check()


def test_time_runs() -> None:
    deadline = Deadline(3600)
    first = deadline.remaining()
    assert 3500 < deadline.remaining() <= first <= 3600


def test_another_thread_cancels() -> None:
    deadline = Deadline(3600)
    thread = threading.Thread(target=deadline.cancel)
    thread.start()
    thread.join()
    assert deadline.cancelled
    assert deadline.passed
    with pytest.raises(RequestCancelledError):
        deadline.check()


@pytest.mark.parametrize("seconds", [0, -1, math.nan, "5", [5]])
def test_seconds_must_be_positive(seconds: Any) -> None:
    with pytest.raises(RequestError, match="positive number"):
        Deadline(seconds)
