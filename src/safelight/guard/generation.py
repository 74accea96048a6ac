"""One guarded generation, from the request to the images that may leave."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from PIL.Image import Image

from safelight.concurrency.deadline import Deadline
from safelight.errors import RequestError
from safelight.guard.call_arguments import CallArguments
from safelight.guard.drawing import Drawing, Drawn, draw
from safelight.guard.early_stop import EarlyStops
from safelight.guard.inputs import Inputs
from safelight.guard.negative_prompts import screened_texts, turned_round
from safelight.guard.request import Request
from safelight.guard.steering import GuidancePlan, Steering
from safelight.images.blur import blurred, boxes_to_blur
from safelight.protocols import Pipeline
from safelight.screening.screen import Screen
from safelight.types import (
    GENERATED_IMAGE,
    Action,
    Attempt,
    Result,
    Stage,
    Stop,
    TraceStep,
    Verdict,
    severest_action,
)

_RANDOM_SEEDS = 2**31
_NO_STEERING = "the policy asks to steer and this guard has no way to, so this is blocked."
_UNSEEN = "no image filter looked at the images."


class Generation:
    """Screens what comes in, has drawn what may be drawn, screens what was drawn, releases what may leave.

    ``run`` does all of it. Who draws the images of several requests together calls ``begin``, then, as long
    as it or ``accept`` gives drawings, draws these and hands what came of them to ``accept``, and in the end
    ``finish``. All of them raise ``DeadlineError`` or ``RequestCancelledError`` if there is no time left.
    """

    def __init__(
        self,
        screens: Mapping[Stage, Screen],
        pipe: Pipeline,
        request: Request,
        inputs: Inputs,
        deadline: Deadline | None = None,
    ) -> None:
        self.screens = screens
        self.pipe = pipe
        self.request = request
        self.inputs = inputs
        self.deadline = deadline or Deadline()
        self.most_cost: int | None = None  # of one drawing, in plain images
        self.seed = _seed(request, inputs.arguments.get("generator"))
        self.arguments = CallArguments(request, inputs, self.seed)
        self.verdicts: list[Verdict] = []
        self.elapsed_ms: dict[str, float] = {}
        self.images: dict[int, Image] = {}
        self.stopped: dict[int, Stop] = {}
        self.attempts: dict[int, list[Attempt]] = {}
        self.problems: dict[str, None] = {}
        self.truncated = [0] * len(request.prompts)
        self.steering = Steering(screens["prompt"].policy, pipe)

    def run(self) -> Result:
        drawings = self.begin()
        while drawings:
            drawings = self.accept([each for drawing in drawings for each in draw(self.pipe, [drawing])])
        return self.finish()

    def begin(self) -> list[Drawing]:
        """Screen the request; return what is to be drawn, nothing if nothing may be."""
        with self._timed("prompt"):
            return self._drawings(self._screen_request())

    def accept(self, drawn: Sequence[Drawn]) -> list[Drawing]:
        """Screen what was drawn, in the order of its drawings; return what is to be drawn once more, steered
        away from what was seen."""
        self.deadline.check()
        before = len(self.verdicts)
        plans: dict[int, GuidancePlan] = {}
        images: dict[int, Image] = {}
        traces: dict[int, tuple[TraceStep, ...]] = {}
        for each in drawn:
            plans |= each.plans
            images |= each.images
            traces |= each.traces
            self._note(each)
        with self._timed("image"):
            self._screen_images("image", images, plans)
        with self._timed("pair"):
            self._screen_images("pair", images, plans)
        said = self.verdicts[before:]
        again: dict[int, GuidancePlan] = {}
        for number, lead in plans.items():
            bad = max((v for v in said if v.index == number), key=_severity, default=None)
            if bad and bad.action < Action.STEER:
                bad = None
            tried = Attempt(lead.strength, lead.concepts, bad, self.stopped.get(number), traces[number])
            self.attempts.setdefault(number, []).append(tried)
            if bad and (more := self.steering.again(lead, bad)):
                again[number] = more
                self.stopped.pop(number, None)
            elif number in images:
                self.images[number] = images[number]
        self.verdicts[before:] = [_steerless(v) for v in said if v.index not in again]
        return self._drawings(again)

    def finish(self) -> Result:
        self.deadline.check()
        released = {i: self._release(i, image) for i, image in sorted(self.images.items())}
        out = {i: image for i, image in released.items() if image}
        led = {i: tuple(tries) for i, tries in self.attempts.items() if len(tries) > 1 or _led(tries[0])}
        return Result(
            images=tuple(out.values()),
            indices=tuple(out),
            verdicts=tuple(self.verdicts),
            request_id=uuid.uuid4().hex,
            seed=self.seed,
            model=str(getattr(self.pipe, "name_or_path", None) or type(self.pipe).__name__),
            images_per_prompt=self.request.n,
            truncated_tokens=tuple(self.truncated),
            elapsed_ms=self.elapsed_ms,
            stopped=self.stopped,
            attempts=led,
            notes=self._notes(),
        )

    def _screen_request(self) -> dict[int, GuidancePlan]:
        """How each image that may be drawn is led; none if something that came along may not."""
        prompts = self._screen("prompt", self.request.prompts, "prompt")
        turned = turned_round(self.pipe, self.arguments.given, self.inputs.texts, self.request.prompts)
        others = [
            verdict
            for name, texts in self.inputs.texts.items()
            for verdict in screened_texts(self.screens["prompt"], name, texts, turned, deadline=self.deadline)
        ]
        for name, images in self.inputs.images.items():
            others += self._screen("image", images, name)
        leads = [self.steering.first(verdict) for verdict in prompts]
        self.verdicts = [v if lead else _steerless(v) for v, lead in zip(prompts, leads, strict=True)]
        self.verdicts += map(_steerless, others)
        if severest_action(self.verdicts[len(prompts) :]) >= Action.BLUR:
            return {}
        n = self.request.n
        kept = [(v.index, lead) for v, lead in zip(prompts, leads, strict=True) if lead]
        return {prompt * n + i: lead for prompt, lead in kept for i in range(n)}

    def _drawings(self, plans: Mapping[int, GuidancePlan]) -> list[Drawing]:
        return [
            Drawing(together, self.steering, self.arguments, self.deadline, self._early_stops(together))
            for together in self.steering.together(plans, self.most_cost)
        ]

    def _early_stops(self, plans: Mapping[int, GuidancePlan]) -> EarlyStops | None:
        screen = self.screens.get("image")
        rule = screen.policy.early_stop if screen else None
        return EarlyStops(rule, screen, list(plans)) if screen and rule else None

    def _note(self, drawn: Drawn) -> None:
        """Keep what a call said beside its images."""
        for stage, elapsed_ms in (("wait", drawn.waited_ms), ("generate", drawn.elapsed_ms)):
            self.elapsed_ms[stage] = self.elapsed_ms.get(stage, 0) + elapsed_ms
        self.stopped |= drawn.stopped
        self.verdicts += drawn.verdicts
        for number, tokens in drawn.truncated.items():
            self.truncated[number // self.request.n] = tokens
        if drawn.problem:
            self.problems[f"no image could be stopped early: {drawn.problem}"] = None

    def _screen_images(
        self, stage: Stage, images: Mapping[int, Image], leads: Mapping[int, GuidancePlan]
    ) -> None:
        """Screens those that nothing has blocked yet."""
        open_ = {i: image for i, image in images.items() if self._action(i) < Action.BLOCK}
        items: list[Any] = list(open_.values())
        if stage == "pair":
            items = [(self.request.prompts[i // self.request.n], image) for i, image in open_.items()]
        before = len(self.verdicts)
        self._screen(stage, items, GENERATED_IMAGE, list(open_))
        said = self.verdicts[before:]
        self.verdicts[before:] = [self.steering.judge(leads[verdict.index], verdict) for verdict in said]

    def _screen(
        self, stage: Stage, items: Sequence[Any], subject: str, numbers: Sequence[int] | None = None
    ) -> list[Verdict]:
        if stage not in self.screens or not items:
            return []
        verdicts = self.screens[stage](items, subject, numbers, deadline=self.deadline)
        self.verdicts += verdicts
        return verdicts

    def _action(self, image: int) -> Action:
        return severest_action(
            [v for v in self.verdicts if v.subject == GENERATED_IMAGE and v.index == image]
        )

    def _release(self, number: int, image: Image) -> Image | None:
        """The image as it may leave: as it is, blurred, or not at all."""
        action = self._action(number)
        if action < Action.BLUR:
            return image
        if action is Action.BLOCK:
            return None
        hiding = self.screens["prompt"].policy.hiding
        if not hiding.whole:
            mine = [v for v in self.verdicts if v.subject == GENERATED_IMAGE and v.index == number]
            hidden = blurred(image, boxes_to_blur(mine), hiding.style)
            # A box may have missed a second one of its kind.
            screen = self.screens.get("image")
            hides = screen([hidden], "blurred_image", [number], deadline=self.deadline) if screen else []
            if severest_action(hides) < Action.BLUR:
                return hidden
        return blurred(image, style=hiding.style)

    def _notes(self) -> tuple[str, ...]:
        cut = [
            f"the model did not read the last {tokens} tokens of prompt {i}; all of it was screened."
            for i, tokens in enumerate(self.truncated)
            if tokens
        ]
        if "image" not in self.screens:
            return (*cut, _UNSEEN)
        return (*cut, *self.problems, *self.steering.problems)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.elapsed_ms[stage] = self.elapsed_ms.get(stage, 0) + (time.perf_counter() - started) * 1000


def _led(tried: Attempt) -> bool:
    """Whether anything was changed."""
    return tried.guidance == "erasure" or any(step.acting for step in tried.trace)


def _seed(request: Request, generator: Any) -> int | None:
    if generator is None:
        return secrets.randbelow(_RANDOM_SEEDS) if request.seed is None else request.seed
    if request.seed is not None:
        raise RequestError("give either a seed or a generator, not both.")
    images = request.n * len(request.prompts)
    if isinstance(generator, list) and len(generator) != images:
        raise RequestError(f"give one generator for each of the {images} images, not {len(generator)}.")
    return None


def _severity(verdict: Verdict) -> int:
    return verdict.action.severity


def _steerless(verdict: Verdict) -> Verdict:
    if verdict.action is not Action.STEER:
        return verdict
    return replace(verdict, action=Action.BLOCK, reasons=(*verdict.reasons, _NO_STEERING))
