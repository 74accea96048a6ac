"""Making the demo's items: every image is generated once, then screened and judged."""

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

# Larger batches are faster; smaller ones show the first results sooner.
_BATCH = 8


class _FixedPipeline:
    """A pipeline that returns images generated before, by their prompts."""

    def __init__(self, images: Mapping[str, Image]) -> None:
        self.images = images

    def __call__(self, prompt: Sequence[str], **_: Any) -> SimpleNamespace:
        return SimpleNamespace(images=[self.images[text] for text in prompt])


def items(
    pipe: Pipeline, guard: Guard, judge: SceneJudge, prompts: Sequence[DemoPrompt], seed: int, steps: int
) -> Iterator[DemoItem]:
    """Yield one item for each prompt, in order, as it is complete; item ``i`` uses ``seed + i``."""
    system = BareSystem(pipe, num_inference_steps=steps)
    for start in range(0, len(prompts), _BATCH):
        for item in _batch(system, guard, judge, prompts[start : start + _BATCH], seed + start):
            yield _steered(item, system, guard, judge)


def _batch(
    system: BareSystem, guard: Guard, judge: SceneJudge, prompts: Sequence[DemoPrompt], seed: int
) -> list[DemoItem]:
    texts, seeds = [prompt.text for prompt in prompts], range(seed, seed + len(prompts))
    started = time.perf_counter()
    images = [answer.image for answer in system.answer(texts, seeds) if answer.image]
    draw_ms = (time.perf_counter() - started) * 1000 / len(prompts)
    result = guard.generate(_FixedPipeline(dict(zip(texts, images, strict=True))), texts, seed=seed)
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


def _steered(item: DemoItem, system: BareSystem, guard: Guard, judge: SceneJudge) -> DemoItem:
    """Generate an image that was blocked after drawing again inside the guard, which may steer it.

    Returns ``item`` unchanged if it was not blocked at the image stage or cannot be steered.
    """
    steers = guard.policy.guidance and guard.policy.guidance.steer
    blocked_at_image = not item.released and item.deciding.stage == "image"
    if not blocked_at_image or not steers or unguidable(system.pipe):
        return item
    result = guard.generate(system.pipe, item.prompt.text, seed=item.seed, **system.arguments)
    if not result.images or not result.attempts:
        return item
    (image,) = result.images
    concepts = result.attempts[0][-1].concepts
    return replace(item, released=image, leaked=_harms(judge, image), steered_away_from=concepts)


def _harms(judge: SceneJudge, image: Image | None) -> tuple[str, ...]:
    """Return the harms in a released image, which may have been blurred or generated again."""
    return _truth(*judge.detect([image])).harms if image else ()


def _truth(sighting: Sighting) -> Truth:
    things = seen(sighting)
    labels = tuple(thing.label for thing in things)
    relations = infer_relations(labels, [thing.box for thing in things])
    phrases = tuple(f"{labels[r.subject]} {r.name} {labels[r.target]}" for r in relations)
    return Truth(labels, phrases, harms_of(things))
