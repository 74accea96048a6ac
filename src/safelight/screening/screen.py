"""One stage of screening: runs its filters in order on a batch, and judges each item by the policy."""

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
from safelight.screening.answers import FilterAnswer, KnownLabels, folded, validated_answers
from safelight.screening.filter_set import Builder, FilterSet, describe_error
from safelight.screening.isolation import IsolatedFilter
from safelight.types import Action, FilterFindings, FilterRun, Finding, Stage, Verdict, severity_key

# Limits of a batch of frames in number and pixels, which bound the memory.
_FRAMES, _PIXELS = 16, 1 << 24


@dataclass
class _Item:
    """One item on its way through the filters."""

    item: Any
    index: int
    problem: str | None = None
    findings: list[Finding] = field(default_factory=list)
    runs: dict[str, FilterRun] = field(default_factory=dict)


class Screen:
    """Screens batches of items; it fails closed.

    An item is blocked, with the reason, if a filter raises an error for it, is late, or returns an invalid
    answer. ``filters`` are builders of the filters, or a set of filters that several screens share.

    If a batch fails as a whole, the filter is called again for each item separately, so that one item does
    not block the others. Together these calls have the time of one more call, so a filter takes at most twice
    the policy's ``timeout_s`` per batch, plus the time that it waits for calls of other threads or for a
    worker process to restart.
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
        """The filters by instance name, which are built if necessary.

        Raises ``FilterError`` if there is no filter, or two have the same name.
        """
        filters = self.filter_set.load()
        if not filters:
            raise FilterError(
                f'the policy "{self.policy.name}" has no {self.stage} filter; list one under [filters].'
            )
        return filters

    def load(self) -> None:
        """Build the filters now rather than on first use; raises the errors of ``filters``."""
        _ = self.filters

    def __call__(
        self,
        items: Sequence[Any],
        subject: str,
        indices: Sequence[int] | None = None,
        problems: Sequence[str | None] | None = None,
        deadline: Deadline | None = None,
    ) -> list[Verdict]:
        """Return one verdict per item, in order. ``problems`` are known errors, which block their item.

        Raises ``DeadlineError`` or ``RequestCancelledError`` once the request has no time left.
        """
        filters = self.filters
        indices_of = indices or range(len(items))
        cases = [_Item(*row) for row in zip(items, indices_of, problems or [None] * len(items), strict=True)]
        for name, each in filters.items():
            unblocked = [case for case in cases if self._judge(case).action < Action.BLOCK]
            self._run(name, each, unblocked, deadline)
        return [self._judge(case, subject) for case in cases]

    def find(
        self,
        items: Sequence[Any],
        problems: Sequence[str | None] | None = None,
        deadline: Deadline | None = None,
    ) -> list[list[FilterFindings]]:
        """Return the findings of every filter in each item, in order, without applying the policy.

        For an image there is one element per frame. Raises the errors of a call.
        """
        given = problems or [None] * len(items)
        cases = [_Item(item, 0, problem) for item, problem in zip(items, given, strict=True)]
        for name, each in self.filters.items():
            self._run(name, each, [case for case in cases if not case.problem], deadline)
        return [[FilterFindings(tuple(case.findings), case.runs, case.problem)] for case in cases]

    def _judge(self, case: _Item, subject: str = "") -> Verdict:
        try:
            return self.policy.judge(
                self.stage,
                case.findings,
                filters=case.runs,
                problem=case.problem,
                subject=subject,
                index=case.index,
            )
        except Exception as error:  # noqa: BLE001 - any failure blocks the item
            return Verdict(
                stage=self.stage,
                action=Action.BLOCK,
                categories={},
                findings=tuple(case.findings),
                policy=self.policy.id,
                elapsed_ms=sum(run.elapsed_ms for run in case.runs.values()),
                filters=dict(case.runs),
                reasons=(f"the policy failed ({describe_error(error)}), so this is blocked.",),
                subject=subject,
                index=case.index,
            )

    def _run(self, name: str, each: Any, cases: list[_Item], deadline: Deadline | None) -> None:
        """Run a filter on all cases, and add its findings or the reason of its failure to each."""
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
        """Return one answer per item; an error explains in a sentence why its item is blocked."""
        try:
            answers = self._ask(name, each, items, timeout_s, deadline)
            return [_with_filter_name(name, answer) for answer in answers]
        except Exception as error:  # noqa: BLE001 - any failure blocks the item
            if deadline:
                deadline.check()
            if len(items) == 1:
                return [
                    FilterError(f'the filter "{name}" failed ({describe_error(error)}), so this is blocked.')
                ]
        return self._one_by_one(name, each, items, timeout_s, deadline)

    def _one_by_one(
        self, name: str, each: Any, items: Sequence[Any], timeout_s: float, deadline: Deadline | None
    ) -> list[FilterAnswer]:
        """Call the filter for each item, with an equal share of the remaining time.

        A late item therefore leaves time for the others. Time beyond an item's share was spent on waiting for
        a thread or worker and is not deducted from the time of the others.
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
        """Call the filter and return its answers. Raises an error if it is late or they are invalid."""
        shown = [_read_only(item) for item in items]
        isolated = isinstance(each, IsolatedFilter)
        find = partial(each.find_within, timeout_s=timeout_s) if isolated else each.find
        limit_s = timeout_s + each.overhead_s if isolated else timeout_s
        return self.filter_set.threads(name).call(
            lambda: validated_answers(find(shown), len(shown), self._known), limit_s, deadline
        )


@dataclass(frozen=True, slots=True)
class _Frame:
    """One frame of the image in item ``row``, or the reason why it cannot be decoded."""

    row: int
    frame: int
    item: Any
    pixels: int = 0
    problem: str | None = None


class ImageScreen(Screen):
    """A screen for images as ``open_image`` takes them, or for pairs of a prompt and an image.

    Every frame of an image is screened up to the first that is blocked; the verdict is that of the worst
    frame. An image that cannot be read is blocked without affecting the others.
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
        indices_of = indices or range(len(items))
        worst: dict[int, Verdict] = {}
        for views in _batches(self._views(items, problems or [None] * len(items), worst, deadline)):
            verdicts = super().__call__(
                [view.item for view in views],
                subject,
                [indices_of[view.row] for view in views],
                [view.problem for view in views],
                deadline,
            )
            for view, verdict in zip(views, verdicts, strict=True):
                if view.row not in worst or severity_key(worst[view.row]) < severity_key(verdict):
                    worst[view.row] = replace(verdict, frame=view.frame)
        return [worst[row] for row in range(len(items))]

    def find(
        self,
        items: Sequence[Any],
        problems: Sequence[str | None] | None = None,
        deadline: Deadline | None = None,
    ) -> list[list[FilterFindings]]:
        frames: list[list[FilterFindings]] = [[] for _ in items]
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
    ) -> Iterator[_Frame]:
        for row, (item, problem) in enumerate(zip(items, problems, strict=True)):
            if problem:
                yield _Frame(row, 0, None, problem=problem)
                continue
            prompt, source = item if self.stage == "pair" else (None, item)
            frame = 0
            try:
                for image in open_image(source, self._limits, deadline):
                    if row in worst and worst[row].action is Action.BLOCK:
                        break
                    frame = image.info["frame"]
                    seen = (prompt, image) if self.stage == "pair" else image
                    yield _Frame(row, frame, seen, image.width * image.height)
            except ImageError as error:
                yield _Frame(row, frame, None, problem=str(error))


def _batches(views: Iterable[_Frame]) -> Iterator[list[_Frame]]:
    batch: list[_Frame] = []
    for view in views:
        if batch and (len(batch) == _FRAMES or sum(v.pixels for v in batch) + view.pixels > _PIXELS):
            yield batch
            batch = []
        batch.append(view)
    if batch:
        yield batch


def _known_labels(policy: Policy) -> KnownLabels:
    """Return every label that the policy has a rule for, by its case-folded form."""
    rules = [(*rule.all, *rule.any, *rule.unless, *rule.protected) for rule in policy.context]
    labels = (label for rule in rules for label in rule)
    known: dict[str, set[str]] = {}
    for label in (*load_taxonomy().categories, *policy.categories, *policy.labels, *labels):
        known.setdefault(folded(label), set()).add(label)
    return known


def _read_only(item: Any) -> Any:
    """Return the item with a read-only image, so that a filter cannot change the input of others.

    Pillow copies the pixels of such an image before it modifies them. A copy for every filter in advance
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
    """Return the filter's version and None, or an empty version and the reason why it has none."""
    try:
        version = each.version
        if isinstance(version, str):
            return version, None
        why = f"its version is {version!r}"
    except Exception as error:  # noqa: BLE001 - any failure blocks the item
        why = describe_error(error)
    return "", f'the filter "{name}" has no valid version ({why}), so this is blocked.'


def _with_filter_name(name: str, answer: FilterAnswer) -> FilterAnswer:
    if not isinstance(answer, FilterError):
        return answer
    return FilterError(f'the filter "{name}" could not process it: {answer}')
