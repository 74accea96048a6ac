"""One guarded generation, from the request to the images that are released."""

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
from safelight.guard.early_stop import EarlyStops
from safelight.guard.image_in_progress import ImageInProgress
from safelight.guard.inputs import Inputs
from safelight.guard.negative_prompts import reversed_because, screened_texts
from safelight.guard.pipeline_call import GeneratedImages, PlannedImages, generate_images
from safelight.guard.request import Request
from safelight.guard.steering import GuidancePlan, Steering
from safelight.images.blur import blurred, boxes_to_blur
from safelight.protocols import Pipeline
from safelight.screening.screen import Screen
from safelight.types import (
    GENERATED_IMAGE,
    Action,
    Result,
    Stage,
    Stop,
    Verdict,
    severest_action,
)

_RANDOM_SEEDS = 2**31
_NO_STEERING = "the policy requires steering but has no guidance to try, so the item is blocked."
_UNSCREENED = "no image filter screened the images."


class Generation:
    """Screens a request, generates its images, screens the images, and releases those that the policy allows.

    ``run`` does all of it. A caller that generates images of several requests together calls ``begin``, then,
    as long as ``begin`` or ``accept`` returns planned images, generates these and passes the output to
    ``accept``, and finally calls ``finish``. All of them raise ``DeadlineError`` after the deadline, and
    ``RequestCancelledError`` if the request was cancelled.
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
        self.max_cost: int | None = None  # of the images of one call, in images that are not guided
        self.seed = _seed(request, inputs.arguments.get("generator"))
        self.arguments = CallArguments(request, inputs, self.seed)
        self.verdicts: list[Verdict] = []
        self.elapsed_ms: dict[str, float] = {}
        self.images: dict[int, ImageInProgress] = {}
        self.problems: dict[str, None] = {}
        self.truncated = [0] * len(request.prompts)
        self.steering = Steering(screens["prompt"].policy, pipe)

    def run(self) -> Result:
        planned = self.begin()
        while planned:
            planned = self.accept([each for one in planned for each in generate_images(self.pipe, [one])])
        return self.finish()

    def begin(self) -> list[PlannedImages]:
        """Screen the request and return the images to generate; none if none may be generated."""
        with self._timed("prompt"):
            return self._planned(self._screen_request())

    def accept(self, generated: Sequence[GeneratedImages]) -> list[PlannedImages]:
        """Screen what was generated, and return the images to generate again, with guidance.

        ``generated`` is in the order of the planned images.
        """
        self.deadline.check()
        received = [image for each in generated for image in self._receive(each)]
        verdicts = [verdict for each in generated for verdict in each.verdicts]
        for verdict in verdicts:
            self.images[verdict.index].verdicts.append(verdict)
        with self._timed("image"):
            verdicts += self._screen_images("image", received)
        with self._timed("pair"):
            verdicts += self._screen_images("pair", received)
        plans = {image.number: image.next_plan(self.steering) for image in received}
        again = {number: plan for number, plan in plans.items() if plan}
        self.verdicts += [_without_steer(verdict) for verdict in verdicts if verdict.index not in again]
        for image in received:
            image.verdicts = list(map(_without_steer, image.verdicts))
        return self._planned(again)

    def finish(self) -> Result:
        """Return the result. Images that were blocked are not in it."""
        self.deadline.check()
        released = {number: self._release(self.images[number]) for number in sorted(self.images)}
        out = {number: image for number, image in released.items() if image}
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
            stopped=self._stopped(),
            attempts={i: tuple(image.attempts) for i, image in self.images.items() if image.was_guided},
            notes=self._notes(),
        )

    def _screen_request(self) -> dict[int, GuidancePlan]:
        """Return the plan of each image that may be generated; none if another input is blocked."""
        prompts = self._screen("prompt", self.request.prompts, "prompt")
        others = self._screen_inputs()
        plans = [self.steering.first_plan(verdict) for verdict in prompts]
        self.verdicts = [v if plan else _without_steer(v) for v, plan in zip(prompts, plans, strict=True)]
        self.verdicts += map(_without_steer, others)
        if severest_action(self.verdicts[len(prompts) :]) >= Action.BLUR:
            return {}
        n = self.request.n
        allowed = [(v.index, plan) for v, plan in zip(prompts, plans, strict=True) if plan]
        return {prompt * n + i: plan for prompt, plan in allowed for i in range(n)}

    def _screen_inputs(self) -> list[Verdict]:
        """Screen the texts and images of the call other than its prompts."""
        screen, texts = self.screens["prompt"], self.inputs.texts
        reversed_by = reversed_because(self.pipe, self.arguments.given, texts, self.request.prompts)
        verdicts = [
            verdict
            for name, given in texts.items()
            for verdict in screened_texts(screen, name, given, reversed_by, deadline=self.deadline)
        ]
        for name, images in self.inputs.images.items():
            verdicts += self._screen("image", images, name)
        return verdicts

    def _planned(self, plans: Mapping[int, GuidancePlan]) -> list[PlannedImages]:
        return [
            PlannedImages(group, self.steering, self.arguments, self.deadline, self._early_stops(group))
            for group in self.steering.grouped(plans, self.max_cost)
        ]

    def _early_stops(self, plans: Mapping[int, GuidancePlan]) -> EarlyStops | None:
        screen = self.screens.get("image")
        rule = screen.policy.early_stop if screen else None
        return EarlyStops(rule, screen, list(plans)) if screen and rule else None

    def _receive(self, generated: GeneratedImages) -> list[ImageInProgress]:
        """Store the output of one call, and return its images."""
        for stage, elapsed_ms in (("wait", generated.waited_ms), ("generate", generated.elapsed_ms)):
            self.elapsed_ms[stage] = self.elapsed_ms.get(stage, 0) + elapsed_ms
        for number, tokens in generated.truncated.items():
            self.truncated[number // self.request.n] = tokens
        if generated.problem:
            self.problems[f"no image could be stopped early: {generated.problem}"] = None
        images = [self.images.setdefault(number, ImageInProgress(number)) for number in generated.plans]
        for image in images:
            image.receive(generated)
        return images

    def _screen_images(self, stage: Stage, images: Sequence[ImageInProgress]) -> list[Verdict]:
        """Screen the images that were finished and that no stage has blocked yet."""
        items: dict[int, Any] = {
            each.number: each.image
            for each in images
            if each.image is not None and each.action < Action.BLOCK
        }
        if stage == "pair":
            prompts = self.request.prompts
            items = {number: (prompts[number // self.request.n], image) for number, image in items.items()}
        verdicts = []
        for verdict in self._screen(stage, list(items.values()), GENERATED_IMAGE, list(items)):
            image = self.images[verdict.index]
            verdicts.append(self.steering.judge(image.plan, verdict))
            image.verdicts.append(verdicts[-1])
        return verdicts

    def _screen(
        self, stage: Stage, items: Sequence[Any], subject: str, numbers: Sequence[int] | None = None
    ) -> list[Verdict]:
        if stage not in self.screens or not items:
            return []
        return self.screens[stage](items, subject, numbers, deadline=self.deadline)

    def _release(self, image: ImageInProgress) -> Image | None:
        """Return the image, unchanged or blurred; None if it is not released."""
        if image.image is None or image.action is Action.BLOCK:
            return None
        if image.action < Action.BLUR:
            return image.image
        hiding = self.screens["prompt"].policy.hiding
        if not hiding.whole:
            hidden = blurred(image.image, boxes_to_blur(image.verdicts), hiding.style)
            # The boxes may have missed another object of the same kind.
            hides = self._screen("image", [hidden], "blurred_image", [image.number])
            if severest_action(hides) < Action.BLUR:
                return hidden
        return blurred(image.image, style=hiding.style)

    def _stopped(self) -> dict[int, Stop]:
        """Return the early stops by image, in the order in which the images were stopped."""
        indices = [v.index for v in self.verdicts if v.subject == GENERATED_IMAGE]
        return {number: stop for number in indices if (stop := self.images[number].stop)}

    def _notes(self) -> tuple[str, ...]:
        truncated = [
            f"the model did not read the last {tokens} tokens of prompt {i}; all of it was screened."
            for i, tokens in enumerate(self.truncated)
            if tokens
        ]
        if "image" not in self.screens:
            return (*truncated, _UNSCREENED)
        return (*truncated, *self.problems, *self.steering.problems)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.elapsed_ms[stage] = self.elapsed_ms.get(stage, 0) + (time.perf_counter() - started) * 1000


def _seed(request: Request, generator: Any) -> int | None:
    if generator is None:
        return secrets.randbelow(_RANDOM_SEEDS) if request.seed is None else request.seed
    if request.seed is not None:
        raise RequestError("give either a seed or a generator, not both.")
    images = request.n * len(request.prompts)
    if isinstance(generator, list) and len(generator) != images:
        raise RequestError(f"give one generator for each of the {images} images, not {len(generator)}.")
    return None


def _without_steer(verdict: Verdict) -> Verdict:
    """Return the verdict with ``steer`` replaced by ``block``, for an item that cannot be steered."""
    if verdict.action is not Action.STEER:
        return verdict
    return replace(verdict, action=Action.BLOCK, reasons=(*verdict.reasons, _NO_STEERING))
