"""Making the exhibits: every picture is drawn once, and then screened and judged."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from safelight.demo.exhibit import Exhibit, Truth
from safelight.demo.prompts import DemoPrompt
from safelight.evaluation.judging import SceneJudge, harms_of, seen
from safelight.evaluation.relations import infer_relations
from safelight.evaluation.system import BareSystem
from safelight.storybook.detector import Sighting
from safelight.types import Result

if TYPE_CHECKING:
    from PIL.Image import Image

    from safelight.guard import Guard
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
        yield from _batch(system, guard, judge, prompts[start : start + _BATCH], seed + start)


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
    leaked = _leaked(judge, result)
    return [
        Exhibit(
            prompt=prompt,
            seed=seeds[i],
            picture=pictures[i],
            released=released.get(i),
            verdicts=result.verdicts_of(i),
            truth=truths[i],
            leaked=leaked.get(i, ()),
            draw_ms=draw_ms,
        )
        for i, prompt in enumerate(prompts)
    ]


def _leaked(judge: SceneJudge, result: Result) -> dict[int, tuple[str, ...]]:
    """The harms of what was released, by number: it may have been blurred."""
    sightings = judge.detect(result.images) if result.images else ()
    return {i: _truth(sighting).harms for i, sighting in zip(result.indices, sightings, strict=True)}


def _truth(sighting: Sighting) -> Truth:
    things = seen(sighting)
    labels = tuple(thing.label for thing in things)
    relations = infer_relations(labels, [thing.box for thing in things])
    said = tuple(f"{labels[r.subject]} {r.name} {labels[r.target]}" for r in relations)
    return Truth(labels, said, harms_of(things))
