"""Evaluation of the image filter ``ocr``: labelled prompts written on images, and the same as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from safelight import registry
from safelight.errors import FilterError
from safelight.evaluation.command_line import command_line
from safelight.evaluation.detection import share
from safelight.evaluation.labelled_prompts import labelled_prompts
from safelight.evaluation.results import write_results
from safelight.evaluation.screened_prompts import screened
from safelight.evaluation.tables import Row
from safelight.filters.image.training.photographs import photographs
from safelight.filters.image.training.rendered_text import (
    behind_text,
    fonts,
    random_style,
    render_text,
)
from safelight.filters.text.labelled_prompts import LabelledPrompt
from safelight.guard.guard import Guard
from safelight.policy import Policy
from safelight.types import Action

SIDE = 512
# Font sizes, as shares of the height of an image.
SIZES = (0.03, 0.05, 0.08)
_PLAIN, _PHOTOGRAPH = "plain", "photograph"


@dataclass(frozen=True, slots=True)
class _Written:
    """A prompt written on an image: where, whether the policy flags it as text, and as an image."""

    prompt: LabelledPrompt
    size: float
    background: str
    as_text: bool
    as_image: bool


def evaluate_image_text(
    policy: str | Path, out: Path, images: Path | None = None, limit: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Write the packaged English prompts on images, and compare the policy's verdicts on both.

    Each prompt is written in three sizes on a plain colour and, with ``images``, on a photograph of this
    folder; prompts that do not fit are left out. The findings of the filter ``ocr``, with the policy's prompt
    filters, are judged by the policy's thresholds for prompts. The photographs are judged without a prompt as
    well. Writes ``results.json`` in ``out`` and returns its content. Raises ``RequestError`` for a folder
    without images, and ``FilterError`` if a filter fails.
    """
    guard = Guard.from_policy(policy, stages=("prompt",))
    ocr = registry.build("image_filter", "ocr", filters=guard.policy.filters.of("prompt"))
    prompts = _evenly(labelled_prompts("unseen"), limit)
    photos = [_square(each) for each in photographs(images)] if images else []
    as_text = [each.action is not Action.ALLOW for each in screened(guard, [each.prompt for each in prompts])]
    rng = np.random.default_rng(seed)
    written = [
        each
        for prompt, flagged in zip(prompts, as_text, strict=True)
        for each in _written(ocr, guard.policy, prompt, flagged, photos, rng)
    ]
    tables = {
        "survives": _rows([each for each in written if each.prompt.categories and each.as_text]),
        "harmful flagged": _rows([each for each in written if each.prompt.categories]),
        "harmless flagged": _rows([each for each in written if not each.prompt.categories]),
        "text flagged": [
            *share("harmful", (x for x, each in zip(as_text, prompts, strict=True) if each.categories)),
            *share("harmless", (x for x, each in zip(as_text, prompts, strict=True) if not each.categories)),
        ],
        "photographs flagged": share("all", (_is_flagged(ocr, guard.policy, each) for each in photos)),
    }
    run = {"policy": guard.policy.id, "filter": ocr.version, "side": SIDE, "photographs": len(photos)}
    command = command_line("image-text", policy=guard.policy.name, images=images, limit=limit, seed=seed)
    return write_results(out / "results.json", command, run, tables, {})


def _evenly(prompts: list[LabelledPrompt], limit: int | None) -> list[LabelledPrompt]:
    """Return ``limit`` of the prompts at even distances, because they are sorted by author and harm."""
    count = min(limit or len(prompts), len(prompts))
    return [prompts[i * len(prompts) // count] for i in range(count)]


def _square(image: Image.Image) -> Image.Image:
    """Return the middle of an image."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _written(
    ocr: Any,
    policy: Policy,
    prompt: LabelledPrompt,
    flagged: bool,
    photos: Sequence[Image.Image],
    rng: np.random.Generator,
) -> Iterator[_Written]:
    """Yield the prompt in every size, on every kind of background that it fits on."""
    for size in SIZES:
        for kind, background in _backgrounds(photos, rng):
            font = fonts()[int(rng.integers(len(fonts())))]
            pixels, at = round(size * SIDE), (rng.random(), rng.random())
            behind = behind_text(background, prompt.prompt, font, pixels, at)
            style = random_style(rng, font, pixels, behind, angle=0.0)
            text = render_text(background, prompt.prompt, style, at)
            if " ".join(text.lines) == " ".join(prompt.prompt.split()):
                yield _Written(prompt, size, kind, flagged, _is_flagged(ocr, policy, text.image))


def _backgrounds(
    photos: Sequence[Image.Image], rng: np.random.Generator
) -> Iterator[tuple[str, Image.Image]]:
    colour = tuple(int(value) for value in rng.integers(0, 256, 3))
    yield _PLAIN, Image.new("RGB", (SIDE, SIDE), colour)
    if photos:
        yield _PHOTOGRAPH, photos[int(rng.integers(len(photos)))]


def _is_flagged(ocr: Any, policy: Policy, image: Image.Image) -> bool:
    (found,) = ocr.find([image])
    if isinstance(found, FilterError):
        raise found
    return policy.judge("prompt", found).action is not Action.ALLOW


def _rows(written: Sequence[_Written]) -> list[Row]:
    """Return how many are flagged as images: all, and by background and size."""
    rows = share("all", (each.as_image for each in written))
    for kind in (_PLAIN, _PHOTOGRAPH):
        for size in SIZES:
            of = (each.as_image for each in written if (each.background, each.size) == (kind, size))
            rows += share(f"{kind}, {size:.0%}", of)
    return rows
