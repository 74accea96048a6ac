"""Making the exhibits: every image is drawn once, and then screened and judged."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from safelight.demo.item import DemoItem, Truth
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


class _DrawnImages:
    """Images that are there already, given out as a pipeline would draw them."""

    def __init__(self, images: Mapping[str, Image]) -> None:
        self.images = images

    def __call__(self, prompt: Sequence[str], **_: Any) -> SimpleNamespace:
        return SimpleNamespace(images=[self.images[text] for text in prompt])


def items(
    pipe: Pipeline, guard: Guard, judge: SceneJudge, prompts: Sequence[DemoPrompt], seed: int, steps: int
) -> Iterator[DemoItem]:
    """One exhibit per prompt, in order, as they are made; number ``i`` is drawn with ``seed + i``."""
    system = BareSystem(pipe, num_inference_steps=steps)
    for start in range(0, len(prompts), _BATCH):
        for item in _batch(system, guard, judge, prompts[start : start + _BATCH], seed + start):
            yield _led(item, system, guard, judge)


def _batch(
    system: BareSystem, guard: Guard, judge: SceneJudge, prompts: Sequence[DemoPrompt], seed: int
) -> list[DemoItem]:
    texts, seeds = [prompt.text for prompt in prompts], range(seed, seed + len(prompts))
    started = time.perf_counter()
    images = [answer.image for answer in system.answer(texts, seeds) if answer.image]
    draw_ms = (time.perf_counter() - started) * 1000 / len(prompts)
    result = guard.generate(_DrawnImages(dict(zip(texts, images, strict=True))), texts, seed=seed)
    released = dict(zip(result.indices, result.images, strict=True))
    truths = [_truth(sighting) for sighting in judge.detect(images)]
    return [
        DemoItem(
            prompt=prompt,
            seed=seeds[i],
            image=images[i],
            released=released.get(i),
            verdicts=result.verdicts_of(i),
            truth=truths[i],
            leaked=_harms(judge, released.get(i)),
            draw_ms=draw_ms,
        )
        for i, prompt in enumerate(prompts)
    ]


def _led(item: DemoItem, system: BareSystem, guard: Guard, judge: SceneJudge) -> DemoItem:
    """What was blocked at the image, as the guard draws it when the pipeline is its own."""
    steered = guard.policy.guidance and guard.policy.guidance.steer
    at_the_image = not item.released and item.deciding.stage == "image"
    if not at_the_image or not steered or unguidable(system.pipe):
        return item
    result = guard.generate(system.pipe, item.prompt.text, seed=item.seed, **system.arguments)
    if not result.images or not result.attempts:
        return item
    (image,) = result.images
    led = result.attempts[0][-1].concepts
    return replace(item, released=image, leaked=_harms(judge, image), led=led)


def _harms(judge: SceneJudge, image: Image | None) -> tuple[str, ...]:
    """Of what was released: it may have been blurred, or drawn again."""
    return _truth(*judge.detect([image])).harms if image else ()


def _truth(sighting: Sighting) -> Truth:
    things = seen(sighting)
    labels = tuple(thing.label for thing in things)
    relations = infer_relations(labels, [thing.box for thing in things])
    said = tuple(f"{labels[r.subject]} {r.name} {labels[r.target]}" for r in relations)
    return Truth(labels, said, harms_of(things))
