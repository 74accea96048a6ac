"""Making the exhibits: every picture is drawn once, and then screened and judged."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from safelight.demo.exhibit import Exhibit, Truth
from safelight.demo.prompts import DemoPrompt
from safelight.evaluation.system import BareSystem
from safelight.guard.steering import unguidable
from safelight.storybook.detector import Sighting
from safelight.storybook.judging import SceneJudge, harms_of, seen
from safelight.storybook.relations import infer_relations

if TYPE_CHECKING:
    from PIL.Image import Image

    from safelight.guard.guard import Guard
    from safelight.protocols import Pipeline

# Large batches draw faster, small ones show sooner that something happens.
_BATCH = 8


class _Drawn:
    """Pictures that are there already, given out as a pipeline would draw them."""

    def __init__(self, pictures: Mapping[str, Image]) -> None:
        self.pictures = pictures

    def __call__(self, prompt: Sequence[str], **_: Any) -> SimpleNamespace:
        return SimpleNamespace(images=[self.pictures[text] for text in prompt])


def exhibits(
    pipe: Pipeline, guard: Guard, judge: SceneJudge, prompts: Sequence[DemoPrompt], seed: int, steps: int
) -> Iterator[Exhibit]:
    """One exhibit per prompt, in order, as they are made; number ``i`` is drawn with ``seed + i``."""
    system = BareSystem(pipe, num_inference_steps=steps)
    for start in range(0, len(prompts), _BATCH):
        for exhibit in _batch(system, guard, judge, prompts[start : start + _BATCH], seed + start):
            yield _led(exhibit, system, guard, judge)


def _batch(
    system: BareSystem, guard: Guard, judge: SceneJudge, prompts: Sequence[DemoPrompt], seed: int
) -> list[Exhibit]:
    texts, seeds = [prompt.text for prompt in prompts], range(seed, seed + len(prompts))
    started = time.perf_counter()
    pictures = [answer.image for answer in system.answer(texts, seeds) if answer.image]
    draw_ms = (time.perf_counter() - started) * 1000 / len(prompts)
    result = guard.generate(_Drawn(dict(zip(texts, pictures, strict=True))), texts, seed=seed)
    released = dict(zip(result.indices, result.images, strict=True))
    truths = [_truth(sighting) for sighting in judge.detect(pictures)]
    return [
        Exhibit(
            prompt=prompt,
            seed=seeds[i],
            picture=pictures[i],
            released=released.get(i),
            verdicts=result.verdicts_of(i),
            truth=truths[i],
            leaked=_harms(judge, released.get(i)),
            draw_ms=draw_ms,
        )
        for i, prompt in enumerate(prompts)
    ]


def _led(exhibit: Exhibit, system: BareSystem, guard: Guard, judge: SceneJudge) -> Exhibit:
    """What was blocked at the picture, as the guard draws it when the pipeline is its own."""
    steered = guard.policy.guidance and guard.policy.guidance.steer
    at_the_picture = not exhibit.released and exhibit.deciding.stage == "image"
    if not at_the_picture or not steered or unguidable(system.pipe):
        return exhibit
    result = guard.generate(system.pipe, exhibit.prompt.text, seed=exhibit.seed, **system.arguments)
    if not result.images or not result.attempts:
        return exhibit
    (picture,) = result.images
    led = result.attempts[0][-1].concepts
    return replace(exhibit, released=picture, leaked=_harms(judge, picture), led=led)


def _harms(judge: SceneJudge, picture: Image | None) -> tuple[str, ...]:
    """Of what was released: it may have been blurred, or drawn again."""
    return _truth(*judge.detect([picture])).harms if picture else ()


def _truth(sighting: Sighting) -> Truth:
    things = seen(sighting)
    labels = tuple(thing.label for thing in things)
    relations = infer_relations(labels, [thing.box for thing in things])
    said = tuple(f"{labels[r.subject]} {r.name} {labels[r.target]}" for r in relations)
    return Truth(labels, said, harms_of(things))
