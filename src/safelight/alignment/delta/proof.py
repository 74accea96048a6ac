"""Measurement of an edit: its changes to the weights, to images of edited concepts, and to other images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from safelight.alignment.method.concept_names import names_of
from safelight.errors import ModelError

if TYPE_CHECKING:
    from PIL.Image import Image

    from safelight.alignment.delta.delta import Delta

# A function that returns which of the images show the concept, or None if that is unknown.
Shows = Callable[[str, Sequence["Image"]], Sequence[bool] | None]
# Differences of pixel values up to this are attributed to rounding.
_ROUNDING = 1 / 255


@dataclass(frozen=True, slots=True)
class Change:
    """The difference between images from the same noise before and after an edit.

    ``largest`` and ``mean`` are differences of pixel values in [0, 1]; ``before`` and ``after`` are shares of
    images that show the concept, None if unknown.
    """

    num_images: int
    largest: float
    mean: float
    before: float | None = None
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """The number of changed ``values`` and ``tensors``, and the changes of images by concept."""

    tensors: int
    values: int
    concepts: Mapping[str, Change]
    preserved: Mapping[str, Change]


@dataclass(frozen=True, slots=True)
class Pair:
    """Images of a concept before and after an edit."""

    before: Sequence[Image]
    after: Sequence[Image]


def prove(
    pipe: Any,
    delta: Delta,
    preserved: Sequence[str] = (),
    num_images: int = 8,
    steps: int = 25,
    seed: int = 0,
    shows: Shows | None = None,
) -> tuple[Proof, dict[str, Pair]]:
    """Measure the effect of a delta, and return it with ``num_images`` images of each concept.

    ``shows`` decides which images show a concept. Raises ``ModelError`` if the images of an edited concept do
    not change.
    """
    concepts = (*delta.about.concepts, *preserved)
    before = {concept: draw(pipe, concept, num_images, steps, seed) for concept in concepts}
    with delta.attach(pipe, force=True):
        after = {concept: draw(pipe, concept, num_images, steps, seed) for concept in concepts}
    pairs = {concept: Pair(before[concept], after[concept]) for concept in concepts}
    changes = {concept: _change(concept, each, shows) for concept, each in pairs.items()}
    for concept in delta.about.concepts:
        if changes[concept].largest <= _ROUNDING:
            raise ModelError(f'no image of "{concept}" was changed; check the concepts and the settings.')
    return (
        Proof(
            len(delta.tensors),
            sum(int(tensor.count_nonzero()) for tensor in delta.tensors.values()),
            {concept: changes[concept] for concept in delta.about.concepts},
            {concept: changes[concept] for concept in preserved},
        ),
        pairs,
    )


def draw(pipe: Any, concept: str, num_images: int, steps: int, seed: int) -> list[Image]:
    """Return images of a concept, prompted by its synonyms in turn; image i has the seed ``seed`` + i."""
    import torch

    names = names_of(concept)
    prompts = [names[i % len(names)] for i in range(num_images)]
    generators = [torch.Generator().manual_seed(seed + i) for i in range(num_images)]
    images: list[Image] = pipe(prompts, num_inference_steps=steps, generator=generators).images
    return images


def _change(concept: str, pair: Pair, shows: Shows | None) -> Change:
    pairs = zip(pair.before, pair.after, strict=True)
    apart = np.array([np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32)) for a, b in pairs]) / 255
    rates = [_rate(shows(concept, images)) if shows else None for images in (pair.before, pair.after)]
    return Change(len(apart), round(float(apart.max()), 4), round(float(apart.mean()), 4), *rates)


def _rate(seen: Sequence[bool] | None) -> float | None:
    return sum(seen) / len(seen) if seen else None
