"""A fuzzed subject: its cases, the property that each must have, and the command that runs them."""

from __future__ import annotations

import argparse
import faulthandler
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

Case = TypeVar("Case")
Value = TypeVar("Value")

# A case that takes so long ends the process, which then says in which line it was.
_PATIENCE_S = 300


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of one case: the number of its inputs, how many were refused, and the CPU time of the
    slowest."""

    inputs: int
    refused: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Subject(Generic[Case]):
    """``check`` raises for a case that does not have the property; ``count`` cases are the full size."""

    name: str
    cases: st.SearchStrategy[Case]
    check: Callable[[Case], Tried]
    count: int
    cpu_s: float


def timed(run: Callable[[], Value]) -> tuple[Value, float]:
    """Return what ``run`` returns and the CPU time of the process meanwhile."""
    started = time.process_time()
    return run(), time.process_time() - started


def try_cases(subject: Subject[Case], count: int, seed: int) -> list[Tried]:
    """Check ``count`` cases. Raises for a violation, with the smallest case that Hypothesis finds, and after
    all cases for one that takes too long."""
    tried: list[Tried] = []
    slow: list[str] = []

    @seeded(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=subject.cases)
    def check(case: Case) -> None:
        faulthandler.dump_traceback_later(_PATIENCE_S, exit=True)
        one = _check_twice_if_slow(subject, case)
        if one.cpu_s > subject.cpu_s:
            slow.append(f"{one.cpu_s:.2f} s of CPU, more than {subject.cpu_s:g} s: {repr(case)[:2000]}")
        tried.append(one)

    try:
        check()
    finally:
        faulthandler.cancel_dump_traceback_later()
    if slow:
        raise AssertionError("\n".join(slow))
    return tried


def _check_twice_if_slow(subject: Subject[Case], case: Case) -> Tried:
    """What is loaded with the first case, and garbage that is collected meanwhile, count for no case."""
    one = subject.check(case)
    return one if one.cpu_s <= subject.cpu_s else min(one, subject.check(case), key=lambda each: each.cpu_s)


def main(*subjects: Subject[Case]) -> None:
    """Try every subject and print a line about each."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    counts = ", ".join(f"{subject.count:,} {subject.name}" for subject in subjects)
    parser.add_argument("--count", type=int, help=f"number of cases of each subject ({counts})")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cases (0)")
    chosen = parser.parse_args()
    for subject in subjects:
        tried = try_cases(subject, chosen.count or subject.count, chosen.seed)
        sys.stdout.write(f"{_summary(subject, tried)}\n")


def _summary(subject: Subject[Case], tried: list[Tried]) -> str:
    inputs, refused = sum(one.inputs for one in tried), sum(one.refused for one in tried)
    slowest = max((one.cpu_s for one in tried), default=0.0)
    return f"{inputs:,} {subject.name}, {refused:,} of them refused; the slowest took {slowest:.2f} s of CPU."
