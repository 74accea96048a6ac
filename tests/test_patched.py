from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from safelight.models.patched_method import patched_method


class Clock:
    def read(self) -> str:
        return "clock"


def says(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return lambda method: lambda *args: f"{name}({method(*args)})"


@contextmanager
def wrapped(clock: Clock, name: str) -> Iterator[None]:
    with patched_method(clock, "read", says(name)):
        yield


@pytest.mark.parametrize("order", list(itertools.permutations("ABC")))
def test_wrappers_stop_in_any_order(order: tuple[str, ...]) -> None:
    clock = Clock()
    contexts = {name: wrapped(clock, name) for name in "ABC"}
    for name in "ABC":
        contexts[name].__enter__()
    assert clock.read() == "C(B(A(clock)))"
    active = list("ABC")
    for name in order:
        contexts[name].__exit__(None, None, None)
        active.remove(name)
        expected = "clock"
        for each in active:
            expected = f"{each}({expected})"
        assert clock.read() == expected
    assert vars(clock) == {}


def test_a_method_of_the_object_itself_comes_back() -> None:
    clock = Clock()
    own = lambda: "own"  # noqa: E731
    clock.read = own  # type: ignore[method-assign]
    with wrapped(clock, "A"):
        assert clock.read() == "A(own)"
    assert clock.read is own


def test_what_somebody_else_put_there_meanwhile_stays() -> None:
    clock = Clock()
    with ExitStack() as stack:
        stack.enter_context(wrapped(clock, "A"))
        inner = clock.read
        clock.read = lambda: f"mine({inner()})"  # type: ignore[method-assign]
        assert clock.read() == "mine(A(clock))"
    assert clock.read() == "mine(clock)"


def test_an_error_inside_restores_the_method() -> None:
    clock = Clock()
    with pytest.raises(ValueError, match="inside"), wrapped(clock, "A"):
        raise ValueError("inside")
    assert vars(clock) == {}
