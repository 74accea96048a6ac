from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from safelight.concurrency.deadline import Deadline
from safelight.errors import DeadlineError, FilterError, RequestCancelledError
from safelight.screening.filter_threads import MAX_LATE, MAX_THREADS, FilterThreads

LONG_S = 30.0


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets whatever waits for it go on, at the latest when the test ends."""
    event = threading.Event()
    yield event
    event.set()


def _until(holds: Callable[[], bool]) -> bool:
    """Return whether the condition becomes true within some seconds."""
    end = time.monotonic() + LONG_S
    while not holds() and time.monotonic() < end:
        time.sleep(0.005)
    return holds()


def test_the_value_or_the_error_of_a_call_comes_back() -> None:
    threads = FilterThreads()
    assert threads.call(lambda: 7, LONG_S) == 7
    with pytest.raises(ZeroDivisionError):
        threads.call(lambda: 1 // 0, LONG_S)


def test_a_filter_that_ends_the_interpreter_has_merely_failed() -> None:
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(FilterError, match="it raised SystemExit"):
        FilterThreads().call(leave, LONG_S)


def test_two_hundred_late_calls_leave_few_threads(release: threading.Event) -> None:
    threads, live, errors = FilterThreads(), [], list[str]()
    for _ in range(200):
        with pytest.raises((TimeoutError, FilterError)) as caught:
            threads.call(lambda: live.append(release.wait()), 0.001)
        errors.append(str(caught.value))
    assert errors[:MAX_LATE] == ["no answer within 0.001 s"] * MAX_LATE
    assert set(errors[MAX_LATE:]) == {f"{MAX_LATE} earlier calls of it have not returned"}
    release.set()
    assert _until(lambda: len(live) == MAX_LATE <= 8)


def test_late_calls_at_the_same_time_leave_few_threads_as_well(release: threading.Event) -> None:
    threads, live = FilterThreads(), []

    def call() -> None:
        for _ in range(5):
            with suppress(TimeoutError, FilterError):
                threads.call(lambda: live.append(release.wait()), 0.05)

    callers = [threading.Thread(target=call) for _ in range(40)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    release.set()
    assert _until(lambda: len(live) >= MAX_LATE)
    assert len(live) <= MAX_THREADS == 8


def test_calls_go_on_once_late_ones_have_come_back(release: threading.Event) -> None:
    threads = FilterThreads(max_late=1)
    with pytest.raises(TimeoutError):
        threads.call(release.wait, 0.001)
    with pytest.raises(FilterError, match="have not returned"):
        threads.call(lambda: 7, LONG_S)
    release.set()

    def works() -> bool:
        with suppress(FilterError):
            return threads.call(lambda: 7, LONG_S) == 7
        return False

    assert _until(works)


def test_calls_that_are_in_time_run_side_by_side() -> None:
    threads, together = FilterThreads(), threading.Barrier(MAX_THREADS)
    values: list[int] = []

    def call() -> None:
        values.append(threads.call(lambda: together.wait(LONG_S), LONG_S))

    callers = [threading.Thread(target=call) for _ in range(MAX_THREADS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(values) == list(range(MAX_THREADS))


def test_a_call_beyond_the_limit_waits_for_its_turn(release: threading.Event) -> None:
    threads, values = FilterThreads(max_running=1), list[int]()
    first = threading.Thread(target=lambda: threads.call(release.wait, LONG_S))
    first.start()
    assert _until(lambda: bool(threads._running))
    second = threading.Thread(target=lambda: values.append(threads.call(lambda: 7, 5.0)))
    second.start()
    second.join(0.2)
    assert second.is_alive(), "it waits"
    release.set()
    first.join()
    second.join()
    assert values == [7]


def test_more_calls_than_threads_are_all_answered_however_long_they_wait() -> None:
    """Together they wait for much longer than one may take."""
    threads, values = FilterThreads(max_running=1), list[int]()

    def call(number: int) -> None:
        values.append(threads.call(lambda: time.sleep(0.25) or number, 3.0))

    callers = [threading.Thread(target=call, args=(number,)) for number in range(14)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(values) == list(range(14))


def test_a_request_without_time_leaves_the_call_behind(release: threading.Event) -> None:
    with pytest.raises(DeadlineError):
        FilterThreads().call(release.wait, LONG_S, Deadline(0.02))
    deadline = Deadline()
    threading.Timer(0.02, deadline.cancel).start()
    started = time.monotonic()
    with pytest.raises(RequestCancelledError):
        FilterThreads().call(release.wait, LONG_S, deadline)
    assert time.monotonic() - started < LONG_S / 2


def test_calls_that_nobody_waits_for_are_not_late_before_their_time(release: threading.Event) -> None:
    """Requests that are cancelled take nothing from others but the threads that still run for them."""
    threads = FilterThreads()
    for _ in range(MAX_THREADS - 1):
        with pytest.raises(DeadlineError):
            threads.call(release.wait, LONG_S, Deadline(0.001))
    assert threads.call(lambda: 7, LONG_S) == 7


def test_a_call_that_waits_learns_that_those_before_it_are_late(release: threading.Event) -> None:
    threads = FilterThreads(max_running=1, max_late=1)
    first = threading.Thread(target=lambda: _late_call(threads, release))
    first.start()
    assert _until(lambda: bool(threads._running))
    started = time.monotonic()
    with pytest.raises(FilterError, match="1 earlier calls of it have not returned"):
        threads.call(lambda: 7, LONG_S)
    assert time.monotonic() - started < LONG_S / 2
    first.join()


def _late_call(threads: FilterThreads, release: threading.Event) -> None:
    with suppress(TimeoutError):
        threads.call(release.wait, 0.1)
