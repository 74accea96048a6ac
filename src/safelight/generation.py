"""One guarded generation, from the request to the pictures that may leave."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from PIL.Image import Image

from safelight.blur import blurred, boxes_of
from safelight.early_stop import Peeks
from safelight.errors import RequestError
from safelight.inputs import Inputs
from safelight.negative_prompts import screened_texts, turned_round
from safelight.outputs import plain_images
from safelight.protocols import Pipeline
from safelight.request import Request
from safelight.screening import Screen
from safelight.steering import Lead, Steering
from safelight.types import Action, Attempt, Result, Stage, Stop, TraceStep, Verdict, severest

_RANDOM_SEEDS = 2**31
_NO_STEERING = "the policy asks to steer and this guard has no way to, so this is blocked."
_UNSEEN = "no image filter looked at the pictures."


class Generation:
    """Screens what comes in, draws what may be drawn, screens what was drawn, releases what may leave."""

    def __init__(
        self,
        screens: Mapping[Stage, Screen],
        pipe: Pipeline,
        request: Request,
        inputs: Inputs,
        arguments: Mapping[str, Any],
    ) -> None:
        self.screens = screens
        self.pipe = pipe
        self.request = request
        self.inputs = inputs
        self.arguments = dict(arguments)
        self.verdicts: list[Verdict] = []
        self.elapsed_ms: dict[str, float] = {}
        self.pictures: dict[int, Image] = {}
        self.stopped: dict[int, Stop] = {}
        self.attempts: dict[int, list[Attempt]] = {}
        self.problems: dict[str, None] = {}
        self.seed = _seed(request, self.arguments.get("generator"))
        self.steering = Steering(screens["prompt"].policy, pipe)

    def run(self) -> Result:
        truncated = _truncated_tokens(self.pipe, self.request.prompts)
        with self._timed("prompt"):
            leads = self._screen_request()
        while leads:
            leads = self._make(leads)
        released = {i: self._release(i, picture) for i, picture in sorted(self.pictures.items())}
        out = {i: picture for i, picture in released.items() if picture}
        led = {i: tuple(tries) for i, tries in self.attempts.items() if len(tries) > 1 or _led(tries[0])}
        return Result(
            images=tuple(out.values()),
            indices=tuple(out),
            verdicts=tuple(self.verdicts),
            request_id=uuid.uuid4().hex,
            seed=self.seed,
            model=str(getattr(self.pipe, "name_or_path", None) or type(self.pipe).__name__),
            pictures_per_prompt=self.request.n,
            truncated_tokens=truncated,
            elapsed_ms=self.elapsed_ms,
            stopped=self.stopped,
            attempts=led,
            notes=self._notes(truncated),
        )

    def _screen_request(self) -> dict[int, Lead]:
        """How each picture that may be drawn is led; none if something that came along may not."""
        prompts = self._screen("prompt", self.request.prompts, "prompt")
        turned = turned_round(self.pipe, self.arguments, self.inputs.texts, self.request.prompts)
        others = [
            verdict
            for name, texts in self.inputs.texts.items()
            for verdict in screened_texts(self.screens["prompt"], name, texts, turned)
        ]
        for name, images in self.inputs.images.items():
            others += self._screen("image", images, name)
        leads = [self.steering.first(verdict) for verdict in prompts]
        self.verdicts = [v if lead else _steerless(v) for v, lead in zip(prompts, leads, strict=True)]
        self.verdicts += map(_steerless, others)
        if severest(self.verdicts[len(prompts) :]) >= Action.BLUR:
            return {}
        n = self.request.n
        kept = [(v.index, lead) for v, lead in zip(prompts, leads, strict=True) if lead]
        return {prompt * n + i: lead for prompt, lead in kept for i in range(n)}

    def _make(self, leads: Mapping[int, Lead]) -> dict[int, Lead]:
        """Draws and screens these pictures, and says which are drawn once more, and how."""
        before = len(self.verdicts)
        drawn: dict[int, Image] = {}
        traces: dict[int, tuple[TraceStep, ...]] = {}
        with self._timed("generate"):
            for each in self.steering.together(leads):
                pictures, steps = self._draw(each)
                drawn |= pictures
                traces |= steps
        with self._timed("image"):
            self._screen_pictures("image", drawn, leads)
        with self._timed("pair"):
            self._screen_pictures("pair", drawn, leads)
        said = self.verdicts[before:]
        again: dict[int, Lead] = {}
        for number, lead in leads.items():
            bad = max((v for v in said if v.index == number), key=_severity, default=None)
            if bad and bad.action < Action.STEER:
                bad = None
            tried = Attempt(lead.strength, lead.concepts, bad, self.stopped.get(number), traces[number])
            self.attempts.setdefault(number, []).append(tried)
            if bad and (more := self.steering.again(lead, bad)):
                again[number] = more
                self.stopped.pop(number, None)
            elif number in drawn:
                self.pictures[number] = drawn[number]
        self.verdicts[before:] = [_steerless(v) for v in said if v.index not in again]
        return again

    def _draw(self, leads: Mapping[int, Lead]) -> tuple[dict[int, Image], dict[int, tuple[TraceStep, ...]]]:
        """By picture number, without those that were stopped on the way; and what guidance did."""
        numbers = list(leads)
        arguments = self._arguments(numbers)
        with self.steering.leading(list(leads.values()), arguments) as traced:
            answer = self._call(arguments, numbers)
            traces = {number: traced(row) for row, number in enumerate(numbers)}
        if answer is None:
            return {}, traces
        drawn = dict(zip(numbers, plain_images(answer, len(numbers)), strict=True))
        return {number: image for number, image in drawn.items() if number not in self.stopped}, traces

    def _arguments(self, numbers: Sequence[int]) -> dict[str, Any]:
        """Of a call that makes these pictures: whole prompts, or each picture by itself."""
        n = self.request.n
        prompts = [number // n for number in numbers]
        whole = prompts[::n]
        if numbers != [prompt * n + i for prompt in whole for i in range(n)]:
            n, whole = 1, prompts
        arguments = self.inputs.only(whole, len(self.request.prompts), self.arguments)
        arguments["generator"] = self._generators(numbers)
        texts = [self.request.prompts[prompt] for prompt in whole]
        return {**arguments, "prompt": texts, "num_images_per_prompt": n}

    def _call(self, arguments: Mapping[str, Any], numbers: Sequence[int]) -> Any:
        """What the pipeline answers; None if all of it was stopped."""
        screen = self.screens.get("image")
        rule = screen.policy.early_stop if screen else None
        if not screen or not rule:
            return self.pipe(**arguments)
        peeks = Peeks(rule, screen, numbers)
        answer = peeks.call(self.pipe, arguments)
        self.stopped |= peeks.stopped
        self.verdicts += peeks.verdicts
        if peeks.problem:
            self.problems[f"no picture could be stopped early: {peeks.problem}"] = None
        return answer

    def _generators(self, numbers: Sequence[int]) -> Any:
        given = self.arguments.get("generator")
        if self.seed is None:
            return [given[i] for i in numbers] if isinstance(given, list) else given
        import torch

        return [torch.Generator().manual_seed(self.seed + number) for number in numbers]

    def _screen_pictures(
        self, stage: Stage, pictures: Mapping[int, Image], leads: Mapping[int, Lead]
    ) -> None:
        """Screens those that nothing has blocked yet."""
        open_ = {i: picture for i, picture in pictures.items() if self._action(i) < Action.BLOCK}
        items: list[Any] = list(open_.values())
        if stage == "pair":
            items = [(self.request.prompts[i // self.request.n], picture) for i, picture in open_.items()]
        before = len(self.verdicts)
        self._screen(stage, items, "picture", list(open_))
        said = self.verdicts[before:]
        self.verdicts[before:] = [self.steering.judge(leads[verdict.index], verdict) for verdict in said]

    def _screen(
        self, stage: Stage, items: Sequence[Any], subject: str, numbers: Sequence[int] | None = None
    ) -> list[Verdict]:
        if stage not in self.screens or not items:
            return []
        verdicts = self.screens[stage](items, subject, numbers)
        self.verdicts += verdicts
        return verdicts

    def _action(self, picture: int) -> Action:
        return severest([v for v in self.verdicts if v.subject == "picture" and v.index == picture])

    def _release(self, number: int, picture: Image) -> Image | None:
        """The picture as it may leave: as it is, blurred, or not at all."""
        action = self._action(number)
        if action < Action.BLUR:
            return picture
        if action is Action.BLOCK:
            return None
        hiding = self.screens["prompt"].policy.hiding
        if not hiding.whole:
            mine = [v for v in self.verdicts if v.subject == "picture" and v.index == number]
            hidden = blurred(picture, boxes_of(mine), hiding.style)
            # A box may have missed a second one of its kind.
            screen = self.screens.get("image")
            if severest(screen([hidden], "blurred picture", [number]) if screen else []) < Action.BLUR:
                return hidden
        return blurred(picture, style=hiding.style)

    def _notes(self, truncated: Sequence[int]) -> tuple[str, ...]:
        cut = [
            f"the model did not read the last {tokens} tokens of prompt {i}; all of it was screened."
            for i, tokens in enumerate(truncated)
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
    return None


def _severity(verdict: Verdict) -> int:
    return verdict.action.severity


def _steerless(verdict: Verdict) -> Verdict:
    if verdict.action is not Action.STEER:
        return verdict
    return replace(verdict, action=Action.BLOCK, reasons=(*verdict.reasons, _NO_STEERING))


def _truncated_tokens(pipe: Pipeline, prompts: Sequence[str]) -> tuple[int, ...]:
    """How many tokens of each prompt are beyond what the pipeline's tokenizer lets through."""
    tokenizer = getattr(pipe, "tokenizer", None)
    if tokenizer is None:
        return (0,) * len(prompts)
    tokens = tokenizer(list(prompts)).input_ids
    return tuple(max(0, len(ids) - tokenizer.model_max_length) for ids in tokens)
