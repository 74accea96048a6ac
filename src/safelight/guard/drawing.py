"""One call of the pipeline: it makes images of one request, or of several requests together."""

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
from safelight.guard.outputs import plain_images
from safelight.guard.private_pipeline import private_pipeline
from safelight.guard.steering import GuidancePlan, Steering, cost_of, guided
from safelight.guard.turns import turn
from safelight.protocols import Pipeline
from safelight.types import Stop, TraceStep, Verdict

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Drawing:
    """The images of one request that are made in one call, each by its number with how it is steered."""

    plans: Mapping[int, GuidancePlan]
    steering: Steering
    arguments: CallArguments
    deadline: Deadline
    early_stops: EarlyStops | None = None

    @property
    def over(self) -> bool:
        """Whether nobody waits for any of its images any more."""
        return self.deadline.passed or (self.early_stops is not None and self.early_stops.everything)

    @property
    def steered(self) -> bool:
        """Whether any of its images is steered away from something."""
        return any(lead.strength for lead in self.plans.values())

    @property
    def cost(self) -> int:
        """How much of the network's time its images take, in plain images."""
        return sum(map(cost_of, self.plans.values()))

    def compatible(self) -> Hashable | None:
        """Return what drawings must have equal to become one call; None if this one stays alone."""
        arguments = self.arguments.compatible()
        first = next(iter(self.plans.values()))
        return None if arguments is None else (arguments, tuple(self.steering.weights(first)))


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a call gave for one drawing.

    ``images`` are by number, without those that were given up on the way: for these ``stopped`` says when
    and ``verdicts`` why. ``problem`` says why nobody could look. ``truncated`` has by number how many tokens
    of the prompt the model did not read. The request waited ``waited_ms`` for the pipeline.
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


def draw(pipe: Pipeline, drawings: Sequence[Drawing], batch: int | None = None) -> list[Drawn]:
    """Make the images of all ``drawings`` in one call; several must be compatible.

    With ``batch`` the call makes exactly as many images, the last ones for nobody, so that no image depends
    on how many others were asked for. The call ends at the next step once nobody waits for it. Raises
    ``ModelError`` if the pipeline does not give the images.
    """
    call = _Call(pipe, drawings, batch)
    with suppress(StopGeneration), turn(pipe, call.check):
        call.run()
    call.ended_at = time.monotonic()
    return list(call.drawn())


class _Call:
    """A call of the pipeline and what it gave, by row."""

    def __init__(self, pipe: Pipeline, drawings: Sequence[Drawing], batch: int | None) -> None:
        self._pipe = pipe
        self._drawings = drawings
        self._batch = batch
        starts = [0, *accumulate(len(drawing.plans) for drawing in drawings)]
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
        for drawing in drawings:
            if drawing.early_stops:
                drawing.early_stops.begin()

    def check(self) -> None:
        """Raise ``StopGeneration`` once nobody waits for any of the images."""
        if all(drawing.over for drawing in self._drawings):
            raise StopGeneration

    def run(self) -> None:
        self._started_at = time.monotonic()
        pipe = private_pipeline(self._pipe)
        arguments, plans = self._arguments(), self._plans()
        self._truncated = dict(enumerate(_truncated_tokens(pipe, self._prompts())))
        at = sorted({share for each in self._drawings if each.early_stops for share in each.early_stops.at})
        with guided(pipe, plans, arguments, self._batch is not None) as traced:
            with watched(pipe, at, self._look, arguments, self._step) as problems:
                self._generate(pipe, arguments)
            self._problem = next(iter(problems), None)
            self._traces = {row: traced(row) for row in range(self._count)}

    def drawn(self) -> Iterator[Drawn]:
        started_at = self._started_at or self.ended_at
        for drawing, rows in zip(self._drawings, self._rows, strict=True):
            numbers = dict(zip(drawing.plans, rows, strict=True))
            early = drawing.early_stops
            given_up = early.stopped if early else {}
            yield Drawn(
                plans=drawing.plans,
                images={n: image for n, image in _by(numbers, self._images).items() if n not in given_up},
                traces=_by(numbers, self._traces),
                stopped={n: self._stop(*steps) for n, steps in given_up.items()},
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
        for drawing, rows in zip(self._drawings, self._rows, strict=True):
            if drawing.early_stops and not drawing.over:
                # A request that runs out of time while it looks is over; the others of the call go on.
                with suppress(DeadlineError, RequestCancelledError):
                    drawing.early_stops.look(done, of, images[rows.start : rows.stop], drawing.deadline)
        self.check()

    def _stop(self, step: int, of: int) -> Stop:
        """Steps are saved only where no other image of the call needed them."""
        return Stop(step, of, of - self._done if self._stopped else 0)

    def _plans(self) -> list[tuple[Steering, GuidancePlan]]:
        plans = [(drawing.steering, lead) for drawing in self._drawings for lead in drawing.plans.values()]
        return plans + [(plans[0][0], GuidancePlan())] * (self._count - len(plans))

    def _prompts(self) -> list[str]:
        return [drawing.arguments.prompt(number) for drawing in self._drawings for number in drawing.plans]

    def _arguments(self) -> dict[str, Any]:
        first = self._drawings[0].arguments
        if len(self._drawings) == 1 and self._batch is None:
            return first.of(list(self._drawings[0].plans))
        calls = [drawing.arguments.apart(list(drawing.plans)) for drawing in self._drawings]
        each = ("prompt", *first.texts)
        joined = {name: [text for call in calls for text in call[name]] for name in each}
        padding = self._count - self._rows[-1].stop
        padded = {name: [*texts, *texts[-1:] * padding] for name, texts in joined.items()}
        generators = [generator for call in calls for generator in call["generator"]]
        generators += [_generator() for _ in range(padding)]
        return {**calls[0], **padded, "generator": generators}


def _by(numbers: Mapping[int, int], rows: Mapping[int, V]) -> dict[int, V]:
    """What the rows have, by the numbers of their images."""
    return {number: rows[row] for number, row in numbers.items() if row in rows}


def _generator() -> Any:
    """For an image that nobody wants."""
    import torch

    return torch.Generator().manual_seed(0)


def _truncated_tokens(pipe: Pipeline, prompts: Sequence[str]) -> list[int]:
    """How many tokens of each prompt are beyond what the pipeline's tokenizer lets through."""
    tokenizer = getattr(pipe, "tokenizer", None)
    if tokenizer is None:
        return [0] * len(prompts)
    tokens = tokenizer(list(prompts)).input_ids
    return [max(0, len(ids) - tokenizer.model_max_length) for ids in tokens]
