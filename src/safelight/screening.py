"""One stage of screening: its filters, run in order on a batch, and the policy's verdict on each item."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from safelight.errors import FilterError
from safelight.policy import Policy
from safelight.types import Action, FilterRun, Finding, Stage, Verdict

Answers = Sequence[Sequence[Finding] | FilterError]


@dataclass
class _Case:
    """One item on its way through the filters."""

    item: Any
    index: int
    problem: str | None = None
    findings: list[Finding] = field(default_factory=list)
    runs: dict[str, FilterRun] = field(default_factory=dict)


class Screen:
    """Fails closed: an item whose filter raises, is late or answers nonsense is blocked, with the reason.

    Each of ``builders`` makes one filter, cheapest first; they are called when first needed.
    """

    def __init__(self, stage: Stage, policy: Policy, builders: Sequence[Callable[[], Any]]) -> None:
        self.stage = stage
        self.policy = policy
        self.builders = tuple(builders)

    @cached_property
    def filters(self) -> dict[str, Any]:
        """By instance name. Raises ``FilterError`` if there is none, or two of one name."""
        filters = {each.name: each for each in (build() for build in self.builders)}
        if not filters:
            raise FilterError(
                f'the policy "{self.policy.name}" has no {self.stage} filter; list one under [filters].'
            )
        if len(filters) < len(self.builders):
            raise FilterError(f"two {self.stage} filters have the same name; rename one of them.")
        return filters

    def load(self) -> None:
        """Builds the filters now rather than on first use; errors as ``filters``."""
        _ = self.filters

    def __call__(
        self,
        items: Sequence[Any],
        subject: str,
        indices: Sequence[int] | None = None,
        problems: Sequence[str | None] | None = None,
    ) -> list[Verdict]:
        """One verdict per item, in order. ``problems`` are known beforehand and block their item."""
        filters = self.filters
        places = indices or range(len(items))
        cases = [_Case(*row) for row in zip(items, places, problems or [None] * len(items), strict=True)]
        for name, each in filters.items():
            self._run(name, each, [case for case in cases if self._judge(case).action < Action.BLOCK])
        return [self._judge(case, subject) for case in cases]

    def _judge(self, case: _Case, subject: str = "") -> Verdict:
        return self.policy.judge(
            self.stage,
            case.findings,
            filters=case.runs,
            problem=case.problem,
            subject=subject,
            index=case.index,
        )

    def _run(self, name: str, each: Any, cases: list[_Case]) -> None:
        if not cases:
            return
        started, problem, answers = time.perf_counter(), None, None
        try:
            answers = _answers(each, [case.item for case in cases], self.policy.filters.timeout_s)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong, it blocks
            problem = f'the filter "{name}" failed ({type(error).__name__}: {error}), so this is blocked.'
        elapsed_ms = (time.perf_counter() - started) * 1000 / len(cases)
        for case, answer in zip(cases, answers or [()] * len(cases), strict=True):
            failed = isinstance(answer, FilterError)
            unseen = f'the filter "{name}" could not look at it: {answer}' if failed else None
            case.runs[name] = FilterRun(each.version, elapsed_ms, problem or unseen)
            case.findings += () if isinstance(answer, FilterError) else answer


def _answers(each: Any, items: list[Any], timeout_s: float) -> Answers:
    """What the filter says; raises for a late, short or malformed answer."""
    answers: Answers = _in_time(lambda: each.find(items), timeout_s)
    if len(answers) != len(items):
        raise FilterError(f"{len(answers)} answers for {len(items)} items")
    found = [answer for answer in answers if not isinstance(answer, FilterError)]
    if not all(isinstance(finding, Finding) for answer in found for finding in answer):
        raise FilterError("an answer that is not a list of findings")
    return answers


def _in_time(call: Callable[[], Any], timeout_s: float) -> Any:
    """The value of ``call()``, made in a thread that is left behind if it is late."""
    done: list[Any] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            done.append(call())
        except Exception as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if not done:
        raise TimeoutError(f"no answer within {timeout_s:g} s")
    return done[0]
