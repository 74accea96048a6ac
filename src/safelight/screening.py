"""One stage of screening: its filters, run in order on a batch, and the policy's verdict on each item."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from safelight.errors import FilterError, ImageError
from safelight.pictures import PictureLimits, open_picture
from safelight.policy import Policy
from safelight.types import Action, FilterRun, Finding, Found, Stage, Verdict, badness

Answers = Sequence[Sequence[Finding] | FilterError]

# Few enough frames at a time to fit into memory, whatever their number and size.
_FRAMES, _PIXELS = 16, 1 << 24


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

    def find(self, items: Sequence[Any], problems: Sequence[str | None] | None = None) -> list[list[Found]]:
        """What every filter says of each item, in order, whatever the policy makes of it; of a picture,
        frame by frame."""
        given = problems or [None] * len(items)
        cases = [_Case(item, 0, problem) for item, problem in zip(items, given, strict=True)]
        for name, each in self.filters.items():
            self._run(name, each, [case for case in cases if not case.problem])
        return [[Found(tuple(case.findings), case.runs, case.problem)] for case in cases]

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


@dataclass(frozen=True, slots=True)
class _View:
    """One frame of the picture in item ``row``, or why there is none."""

    row: int
    frame: int
    item: Any
    pixels: int = 0
    problem: str | None = None


class PictureScreen(Screen):
    """Items are pictures as ``open_picture`` takes them, or pairs of a prompt and one.

    Every frame of a picture is screened up to the first that is blocked, and the worst one counts. A
    picture that cannot be read is blocked, and no other with it.
    """

    def __init__(
        self,
        stage: Stage,
        policy: Policy,
        builders: Sequence[Callable[[], Any]],
        limits: PictureLimits | None = None,
    ) -> None:
        super().__init__(stage, policy, builders)
        self._limits = limits or PictureLimits()

    def __call__(
        self,
        items: Sequence[Any],
        subject: str,
        indices: Sequence[int] | None = None,
        problems: Sequence[str | None] | None = None,
    ) -> list[Verdict]:
        places = indices or range(len(items))
        worst: dict[int, Verdict] = {}
        for views in _batches(self._views(items, problems or [None] * len(items), worst)):
            verdicts = super().__call__(
                [view.item for view in views],
                subject,
                [places[view.row] for view in views],
                [view.problem for view in views],
            )
            for view, verdict in zip(views, verdicts, strict=True):
                if view.row not in worst or badness(worst[view.row]) < badness(verdict):
                    worst[view.row] = replace(verdict, frame=view.frame)
        return [worst[row] for row in range(len(items))]

    def find(self, items: Sequence[Any], problems: Sequence[str | None] | None = None) -> list[list[Found]]:
        frames: list[list[Found]] = [[] for _ in items]
        for views in _batches(self._views(items, problems or [None] * len(items), {})):
            found = super().find([view.item for view in views], [view.problem for view in views])
            for view, (each,) in zip(views, found, strict=True):
                frames[view.row].append(replace(each, frame=view.frame))
        return frames

    def _views(
        self, items: Sequence[Any], problems: Sequence[str | None], worst: Mapping[int, Verdict]
    ) -> Iterator[_View]:
        for row, (item, problem) in enumerate(zip(items, problems, strict=True)):
            if problem:
                yield _View(row, 0, None, problem=problem)
                continue
            prompt, source = item if self.stage == "pair" else (None, item)
            frame = 0
            try:
                for picture in open_picture(source, self._limits):
                    if row in worst and worst[row].action is Action.BLOCK:
                        break
                    frame = picture.info["frame"]
                    seen = (prompt, picture) if self.stage == "pair" else picture
                    yield _View(row, frame, seen, picture.width * picture.height)
            except ImageError as error:
                yield _View(row, frame, None, problem=str(error))


def _batches(views: Iterable[_View]) -> Iterator[list[_View]]:
    batch: list[_View] = []
    for view in views:
        if batch and (len(batch) == _FRAMES or sum(v.pixels for v in batch) + view.pixels > _PIXELS):
            yield batch
            batch = []
        batch.append(view)
    if batch:
        yield batch


def _answers(each: Any, items: list[Any], timeout_s: float) -> Answers:
    """What the filter says; raises for a late, short or malformed answer."""
    answers: Answers = _in_time(lambda: _listed(each.find(items)), timeout_s)
    if len(answers) != len(items):
        raise FilterError(f"{len(answers)} answers for {len(items)} items")
    found = [answer for answer in answers if not isinstance(answer, FilterError)]
    if not all(isinstance(finding, Finding) for answer in found for finding in answer):
        raise FilterError("an answer that is not a list of findings")
    return answers


def _listed(answers: Any) -> Answers:
    """Of answers that can be read only once, lists."""
    return [answer if isinstance(answer, FilterError) else list(answer) for answer in answers]


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
