"""One call of the pipeline, which generates images of one request or of several requests together."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, TypeVar

from PIL.Image import Image

from safelight.concurrency.deadline import Deadline
from safelight.errors import DeadlineError, ModelError, RequestCancelledError
from safelight.guard.call_arguments import CallArguments
from safelight.guard.early_stop import EarlyStops, StopGeneration, watched
from safelight.guard.guided_call import guided
from safelight.guard.outputs import plain_images
from safelight.guard.private_pipeline import private_pipeline
from safelight.guard.steering import GuidancePlan, Steering
from safelight.guard.turns import turn
from safelight.protocols import Pipeline
from safelight.types import Stop, TraceStep, Verdict

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class PlannedImages:
    """Images of one request that are to be generated in one call, each with its plan."""

    plans: Mapping[int, GuidancePlan]
    steering: Steering
    arguments: CallArguments
    deadline: Deadline
    early_stops: EarlyStops | None = None

    @property
    def over(self) -> bool:
        """Whether none of the images is needed any longer."""
        return self.deadline.passed or (self.early_stops is not None and self.early_stops.all_stopped)

    @property
    def guided(self) -> bool:
        """Whether any of the images is guided."""
        return any(plan.guidance for plan in self.plans.values())

    @property
    def cost(self) -> int:
        """The time that the images take together, relative to one image without guidance."""
        return sum(plan.cost for plan in self.plans.values())

    def compatible(self) -> Hashable | None:
        """Return a key that is equal for images that can share a call; None if these cannot share one."""
        arguments = self.arguments.compatible()
        if arguments is None or not all(plan.shares_calls for plan in self.plans.values()):
            return None
        first = next(iter(self.plans.values()))
        return arguments, tuple(self.steering.deltas(first))


@dataclass(frozen=True, slots=True)
class GeneratedImages:
    """The output of a pipeline call for the images of one request.

    All mappings are by the number of the image. ``images`` has the finished images; for the others,
    ``stopped`` has the step at which they were stopped and ``verdicts`` the reason. ``problem`` is the reason
    why unfinished images could not be screened, if any. ``truncated`` counts the tokens of each prompt that
    exceed the tokenizer's limit, so that the model did not read them. The request waited ``waited_ms``
    milliseconds for the pipeline.
    """

    plans: Mapping[int, GuidancePlan]
    images: Mapping[int, Image] = field(default_factory=dict)
    traces: Mapping[int, tuple[TraceStep, ...]] = field(default_factory=dict)
    stopped: Mapping[int, Stop] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    problem: str | None = None
    truncated: Mapping[int, int] = field(default_factory=dict)
    waited_ms: float = 0.0
    elapsed_ms: float = 0.0


def generate_images(
    pipe: Pipeline, planned: Sequence[PlannedImages], batch: int | None = None
) -> list[GeneratedImages]:
    """Generate the images of all ``planned`` in one call; those of several requests must be compatible.

    With ``batch`` the call generates exactly this many images and discards those that were not planned, so
    that no image depends on the number of other images. The call ends at the next step once none of its
    images is needed. Raises ``ModelError`` if the pipeline does not return the images.
    """
    call = _Call(pipe, planned, batch)
    with suppress(StopGeneration), turn(pipe, call.check):
        call.run()
    call.ended_at = time.monotonic()
    return list(call.outputs())


class _Call:
    """A call of the pipeline and its output, by row of the batch."""

    def __init__(self, pipe: Pipeline, planned: Sequence[PlannedImages], batch: int | None) -> None:
        self._pipe = pipe
        self._planned = planned
        self._batch = batch
        starts = [0, *accumulate(len(each.plans) for each in planned)]
        self._rows = [range(*ends) for ends in pairwise(starts)]
        self._count = batch or starts[-1]
        self._done = 0
        self._stopped = False
        self._images: dict[int, Image] = {}
        self._traces: dict[int, tuple[TraceStep, ...]] = {}
        self._truncated: dict[int, int] = {}
        self._problem: str | None = None
        self._asked_at = time.monotonic()
        self._started_at: float | None = None
        self.ended_at = self._asked_at
        for each in planned:
            if each.early_stops:
                each.early_stops.begin()

    def check(self) -> None:
        """Raise ``StopGeneration`` once none of the images is needed."""
        if all(each.over for each in self._planned):
            raise StopGeneration

    def run(self) -> None:
        self._started_at = time.monotonic()
        pipe = private_pipeline(self._pipe)
        arguments, plans = self._arguments(), self._plans()
        self._truncated = dict(enumerate(_truncated_tokens(pipe, self._prompts())))
        at = sorted({share for each in self._planned if each.early_stops for share in each.early_stops.at})
        with guided(pipe, plans, arguments, self._batch is not None) as trace_of:
            with watched(pipe, at, self._look, arguments, self._step) as problems:
                self._generate(pipe, arguments)
            self._problem = next(iter(problems), None)
            self._traces = {row: trace_of(row) for row in range(self._count)}

    def outputs(self) -> Iterator[GeneratedImages]:
        started_at = self._started_at or self.ended_at
        for planned, rows in zip(self._planned, self._rows, strict=True):
            numbers = dict(zip(planned.plans, rows, strict=True))
            early = planned.early_stops
            stopped = early.stopped if early else {}
            yield GeneratedImages(
                plans=planned.plans,
                images={n: image for n, image in _by(numbers, self._images).items() if n not in stopped},
                traces=_by(numbers, self._traces),
                stopped={n: self._stop(*steps) for n, steps in stopped.items()},
                verdicts=tuple(early.verdicts) if early else (),
                problem=self._problem if early else None,
                truncated=_by(numbers, self._truncated),
                waited_ms=1000 * (started_at - self._asked_at),
                elapsed_ms=1000 * (self.ended_at - started_at),
            )

    def _generate(self, pipe: Pipeline, arguments: Mapping[str, Any]) -> None:
        try:
            self._images = dict(enumerate(plain_images(pipe(**arguments), self._count)))
        except StopGeneration:
            self._stopped = True
            if free := getattr(pipe, "maybe_free_model_hooks", None):
                free()

    def _step(self) -> None:
        self._done += 1
        self.check()

    def _look(self, done: int, of: int, images: list[Image]) -> None:
        if len(images) != self._count:
            raise ModelError(f"the pipeline makes {len(images)} images, not {self._count}.")
        for planned, rows in zip(self._planned, self._rows, strict=True):
            if planned.early_stops and not planned.over:
                # If one request exceeds its deadline during screening, the others of the call continue.
                with suppress(DeadlineError, RequestCancelledError):
                    planned.early_stops.look(done, of, images[rows.start : rows.stop], planned.deadline)
        self.check()

    def _stop(self, step: int, of: int) -> Stop:
        """Return the stop of an image; steps are saved only if no other image of the call needs them."""
        return Stop(step, of, of - self._done if self._stopped else 0)

    def _plans(self) -> list[tuple[Steering, GuidancePlan]]:
        plans = [(each.steering, plan) for each in self._planned for plan in each.plans.values()]
        return plans + [(plans[0][0], GuidancePlan())] * (self._count - len(plans))

    def _prompts(self) -> list[str]:
        return [each.arguments.prompt(number) for each in self._planned for number in each.plans]

    def _arguments(self) -> dict[str, Any]:
        first = self._planned[0].arguments
        if len(self._planned) == 1 and self._batch is None:
            return first.of(list(self._planned[0].plans))
        calls = [planned.arguments.apart(list(planned.plans)) for planned in self._planned]
        each = ("prompt", *first.texts)
        joined = {name: [text for call in calls for text in call[name]] for name in each}
        padding = self._count - self._rows[-1].stop
        padded = {name: [*texts, *texts[-1:] * padding] for name, texts in joined.items()}
        generators = [generator for call in calls for generator in call["generator"]]
        generators += [_generator() for _ in range(padding)]
        return {**calls[0], **padded, "generator": generators}


def _by(numbers: Mapping[int, int], rows: Mapping[int, V]) -> dict[int, V]:
    """Return values given by batch row, keyed by the numbers of the images instead."""
    return {number: rows[row] for number, row in numbers.items() if row in rows}


def _generator() -> Any:
    """Return a generator for an image that is discarded."""
    import torch

    return torch.Generator().manual_seed(0)


def _truncated_tokens(pipe: Pipeline, prompts: Sequence[str]) -> list[int]:
    """Return how many tokens of each prompt exceed the maximum length of the pipeline's tokenizer."""
    tokenizer = getattr(pipe, "tokenizer", None)
    if tokenizer is None:
        return [0] * len(prompts)
    tokens = tokenizer(list(prompts)).input_ids
    return [max(0, len(ids) - tokenizer.model_max_length) for ids in tokens]
