"""One stage of screening: its filters, run in order on a batch, and the policy's verdict on each item."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from PIL.Image import Image

from safelight.concurrency.deadline import Deadline
from safelight.errors import FilterError, ImageError
from safelight.images import ImageLimits, open_image
from safelight.policy import Policy
from safelight.policy.taxonomy import load_taxonomy
from safelight.screening.answers import FilterAnswer, KnownLabels, checked_answers, folded
from safelight.screening.filter_set import Builder, FilterSet, said
from safelight.screening.isolation import IsolatedFilter
from safelight.types import Action, FilterRun, Finding, Found, Stage, Verdict, badness

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

    ``filters`` makes the filters, or is a set of them that several screens share.

    Of a batch that fails as a whole, every item is asked about again by itself, so that it blocks no other.
    All of that together takes at most as long as one more call may, so a filter costs a batch at most twice
    the policy's ``timeout_s``, beside the time that it waits for calls of other threads to end or for a
    worker process to start again.
    """

    def __init__(self, stage: Stage, policy: Policy, filters: Sequence[Builder] | FilterSet) -> None:
        self.stage = stage
        self.policy = policy
        self.filter_set = filters if isinstance(filters, FilterSet) else FilterSet(filters)
        self._known = _known_labels(policy)

    @property
    def builders(self) -> tuple[Builder, ...]:
        return self.filter_set.builders

    @property
    def filters(self) -> dict[str, Any]:
        """By instance name; builds them if need be. Raises ``FilterError`` if there is none, or two of one
        name."""
        filters = self.filter_set.load()
        if not filters:
            raise FilterError(
                f'the policy "{self.policy.name}" has no {self.stage} filter; list one under [filters].'
            )
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
        deadline: Deadline | None = None,
    ) -> list[Verdict]:
        """One verdict per item, in order. ``problems`` are known beforehand and block their item.

        Raises ``DeadlineError`` or ``RequestCancelledError`` once the request has no time left.
        """
        filters = self.filters
        places = indices or range(len(items))
        cases = [_Case(*row) for row in zip(items, places, problems or [None] * len(items), strict=True)]
        for name, each in filters.items():
            unblocked = [case for case in cases if self._judge(case).action < Action.BLOCK]
            self._run(name, each, unblocked, deadline)
        return [self._judge(case, subject) for case in cases]

    def find(
        self,
        items: Sequence[Any],
        problems: Sequence[str | None] | None = None,
        deadline: Deadline | None = None,
    ) -> list[list[Found]]:
        """What every filter says of each item, in order, whatever the policy makes of it; of an image,
        frame by frame. Errors as a call."""
        given = problems or [None] * len(items)
        cases = [_Case(item, 0, problem) for item, problem in zip(items, given, strict=True)]
        for name, each in self.filters.items():
            self._run(name, each, [case for case in cases if not case.problem], deadline)
        return [[Found(tuple(case.findings), case.runs, case.problem)] for case in cases]

    def _judge(self, case: _Case, subject: str = "") -> Verdict:
        try:
            return self.policy.judge(
                self.stage,
                case.findings,
                filters=case.runs,
                problem=case.problem,
                subject=subject,
                index=case.index,
            )
        except Exception as error:  # noqa: BLE001 - whatever goes wrong, it blocks
            return Verdict(
                stage=self.stage,
                action=Action.BLOCK,
                categories={},
                findings=tuple(case.findings),
                policy=self.policy.id,
                elapsed_ms=sum(run.elapsed_ms for run in case.runs.values()),
                filters=dict(case.runs),
                reasons=(f"the policy failed ({said(error)}), so this is blocked.",),
                subject=subject,
                index=case.index,
            )

    def _run(self, name: str, each: Any, cases: list[_Case], deadline: Deadline | None) -> None:
        """Add to each case what the filter found in it, or why it failed."""
        if deadline:
            deadline.check()
        if not cases:
            return
        started = time.perf_counter()
        items = [case.item for case in cases]
        answers = self._answers(name, each, items, self.policy.filters.timeout_s, deadline)
        elapsed_ms = (time.perf_counter() - started) * 1000 / len(cases)
        version, problem = _version(name, each)
        for case, answer in zip(cases, answers, strict=True):
            failed = isinstance(answer, FilterError)
            case.runs[name] = FilterRun(version, elapsed_ms, str(answer) if failed else problem)
            case.findings += () if isinstance(answer, FilterError) else answer

    def _answers(
        self, name: str, each: Any, items: Sequence[Any], timeout_s: float, deadline: Deadline | None
    ) -> list[FilterAnswer]:
        """One answer per item; an error says in a sentence why its item is blocked."""
        try:
            answers = self._ask(name, each, items, timeout_s, deadline)
            return [_told(name, answer) for answer in answers]
        except Exception as error:  # noqa: BLE001 - whatever goes wrong, it blocks
            if deadline:
                deadline.check()
            if len(items) == 1:
                return [FilterError(f'the filter "{name}" failed ({said(error)}), so this is blocked.')]
        return self._one_by_one(name, each, items, timeout_s, deadline)

    def _one_by_one(
        self, name: str, each: Any, items: Sequence[Any], timeout_s: float, deadline: Deadline | None
    ) -> list[FilterAnswer]:
        """Every item has an equal share of the time that is left, so a late one leaves some to the others.

        What is over a share was spent on waiting, and is no other item's loss.
        """
        answers: list[FilterAnswer] = []
        for number, item in enumerate(items):
            share_s, started = timeout_s / (len(items) - number), time.monotonic()
            answers += self._answers(name, each, [item], share_s, deadline)
            timeout_s -= min(share_s, time.monotonic() - started)
        return answers

    def _ask(
        self, name: str, each: Any, items: Sequence[Any], timeout_s: float, deadline: Deadline | None
    ) -> list[FilterAnswer]:
        """Raises for a late, short or malformed answer."""
        shown = [_read_only(item) for item in items]
        isolated = isinstance(each, IsolatedFilter)
        find = partial(each.find_within, timeout_s=timeout_s) if isolated else each.find
        patience_s = timeout_s + each.slack_s if isolated else timeout_s
        return self.filter_set.threads(name).call(
            lambda: checked_answers(find(shown), len(shown), self._known), patience_s, deadline
        )


@dataclass(frozen=True, slots=True)
class _View:
    """One frame of the image in item ``row``, or why there is none."""

    row: int
    frame: int
    item: Any
    pixels: int = 0
    problem: str | None = None


class ImageScreen(Screen):
    """Items are images as ``open_image`` takes them, or pairs of a prompt and one.

    Every frame of an image is screened up to the first that is blocked, and the worst one counts. An
    image that cannot be read is blocked, and no other with it.
    """

    def __init__(
        self,
        stage: Stage,
        policy: Policy,
        filters: Sequence[Builder] | FilterSet,
        limits: ImageLimits | None = None,
    ) -> None:
        super().__init__(stage, policy, filters)
        self._limits = limits or ImageLimits()

    def __call__(
        self,
        items: Sequence[Any],
        subject: str,
        indices: Sequence[int] | None = None,
        problems: Sequence[str | None] | None = None,
        deadline: Deadline | None = None,
    ) -> list[Verdict]:
        places = indices or range(len(items))
        worst: dict[int, Verdict] = {}
        for views in _batches(self._views(items, problems or [None] * len(items), worst, deadline)):
            verdicts = super().__call__(
                [view.item for view in views],
                subject,
                [places[view.row] for view in views],
                [view.problem for view in views],
                deadline,
            )
            for view, verdict in zip(views, verdicts, strict=True):
                if view.row not in worst or badness(worst[view.row]) < badness(verdict):
                    worst[view.row] = replace(verdict, frame=view.frame)
        return [worst[row] for row in range(len(items))]

    def find(
        self,
        items: Sequence[Any],
        problems: Sequence[str | None] | None = None,
        deadline: Deadline | None = None,
    ) -> list[list[Found]]:
        frames: list[list[Found]] = [[] for _ in items]
        for views in _batches(self._views(items, problems or [None] * len(items), {}, deadline)):
            found = super().find([view.item for view in views], [view.problem for view in views], deadline)
            for view, (each,) in zip(views, found, strict=True):
                frames[view.row].append(replace(each, frame=view.frame))
        return frames

    def _views(
        self,
        items: Sequence[Any],
        problems: Sequence[str | None],
        worst: Mapping[int, Verdict],
        deadline: Deadline | None,
    ) -> Iterator[_View]:
        for row, (item, problem) in enumerate(zip(items, problems, strict=True)):
            if problem:
                yield _View(row, 0, None, problem=problem)
                continue
            prompt, source = item if self.stage == "pair" else (None, item)
            frame = 0
            try:
                for image in open_image(source, self._limits, deadline):
                    if row in worst and worst[row].action is Action.BLOCK:
                        break
                    frame = image.info["frame"]
                    seen = (prompt, image) if self.stage == "pair" else image
                    yield _View(row, frame, seen, image.width * image.height)
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


def _known_labels(policy: Policy) -> KnownLabels:
    """Every label that the policy has a rule for, by what it is compared by."""
    rules = [(*rule.all, *rule.any, *rule.unless, *rule.protected) for rule in policy.context]
    labels = (label for rule in rules for label in rule)
    known: dict[str, set[str]] = {}
    for label in (*load_taxonomy().categories, *policy.categories, *policy.labels, *labels):
        known.setdefault(folded(label), set()).add(label)
    return known


def _read_only(item: Any) -> Any:
    """Return the item with its image read-only, so that a filter cannot change what others see.

    Pillow copies the pixels of such an image before it draws on them. A copy for every filter beforehand
    would take 64 MiB for 16 megapixels.
    """
    if isinstance(item, tuple):
        return tuple(map(_read_only, item))
    if not isinstance(item, Image):
        return item
    item.load()
    view = item._new(item.im)
    view.readonly = 1
    return view


def _version(name: str, each: Any) -> tuple[str, str | None]:
    """The filter's version, or why it does not tell."""
    try:
        version = each.version
        if isinstance(version, str):
            return version, None
        why = f"its version is {version!r}"
    except Exception as error:  # noqa: BLE001 - whatever goes wrong, it blocks
        why = said(error)
    return "", f'the filter "{name}" tells no version ({why}), so this is blocked.'


def _told(name: str, answer: FilterAnswer) -> FilterAnswer:
    if not isinstance(answer, FilterError):
        return answer
    return FilterError(f'the filter "{name}" could not look at it: {answer}')
