"""Time of four concept heads beside one; they share one image embedding."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL.Image import Image
from safetensors.numpy import save_file

from safelight.clip import load_clip
from safelight.filters.image.clip import Clip
from safelight.storybook import Storybook
from safelight.storybook.vocabulary import HAZARDS, descriptions
from timing import cores, seconds

_IMAGES, _ROUNDS, _HIDDEN = 256, 21, 64


def measure() -> tuple[dict[str, Any], dict[str, float | None]]:
    """Medians over rounds in which all take turns, on one core; the ratio is that of each round.

    Every round has images of its own, one half for each: none was embedded before.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = _save_heads(Path(folder), load_clip().dimensions)
        one = Clip(heads=[files["linear"]])
        four = Clip(
            concepts={hazard: descriptions(hazard) for hazard in HAZARDS},
            safety_checker=files["checker"],
            heads=[files["linear"], files["layers"]],
        )
    with cores(1):
        rounds = [_round(number, one, four) for number in range(_ROUNDS)]
    alone, together, again = ([1000 * times[i] / _IMAGES for times in rounds] for i in range(3))
    return {"model": load_clip().version, "images": _IMAGES, "rounds": _ROUNDS}, {
        "one head: ms an image": median(alone),
        "four heads: ms an image": median(together),
        "four heads, embedded before: ms an image": median(again),
        "four heads / one head": median(b / a for a, b in zip(alone, together, strict=True)),
    }


def _round(number: int, one: Clip, four: Clip) -> tuple[float, float, float]:
    """Seconds for one head, for four, and for four on images that were embedded before."""
    ours, theirs = _images(2 * number), _images(2 * number + 1)
    if number % 2:  # who goes first must not matter
        together, alone = seconds(lambda: four.find(ours)), seconds(lambda: one.find(theirs))
    else:
        alone, together = seconds(lambda: one.find(theirs)), seconds(lambda: four.find(ours))
    return alone, together, seconds(lambda: four.find(ours))


def _images(number: int) -> list[Image]:
    return [scene.image for scene in Storybook(7).scenes(_IMAGES, number * _IMAGES)]


def _save_heads(folder: Path, size: int) -> dict[str, str]:
    """A linear layer, two layers, and the vectors of a safety checker, random but for finding little in most
    images: they cost what real ones do."""
    rng = np.random.default_rng(0)

    def of(*shape: int) -> Any:
        return rng.standard_normal(shape, np.float32) / 10

    labels = {"labels": '["sexual.nudity", "violence", "hate", "self_harm", "illegal"]'}
    save_file({"0.weight": of(5, size), "0.bias": of(5) - 4}, folder / "linear.safetensors", labels)
    layers = {"0.weight": of(_HIDDEN, size), "0.bias": of(_HIDDEN), "2.weight": of(5, _HIDDEN)}
    layers["2.bias"] = of(5) - 4
    save_file(layers, folder / "layers.safetensors", labels)
    checker = {"concept_embeds": of(17, size), "special_care_embeds": of(3, size)}
    thresholds = {f"{name}_weights": np.full(len(rows), 0.3, np.float32) for name, rows in checker.items()}
    save_file({**checker, **thresholds}, folder / "model.safetensors")
    files = {name: str(folder / f"{name}.safetensors") for name in ("linear", "layers")}
    return {**files, "checker": str(folder)}
