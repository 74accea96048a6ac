"""Time of generation with an aligned text encoder beside the original one, taking turns."""

from __future__ import annotations

from statistics import median
from typing import Any

import torch

from safelight import load_pipeline
from safelight.alignment.text_encoder import Prompts, SafeText
from safelight.storybook.suites import suite
from timing import seconds

_BATCH, _STEPS, _ROUNDS = 20, 25, 9
_CONCEPT = "a gun"


def measure() -> tuple[dict[str, Any], dict[str, float | None]]:
    """Seconds are medians, of one batch; the ratio is the median of the rounds'."""
    pipe = load_pipeline("storybook")
    pipe.set_progress_bar_config(disable=True)
    prompts = [case.prompt for case in suite("benign", 5, _BATCH).cases]
    trained = Prompts(unsafe=("a gun", "a gun in a park"), safe=("a dog", "a cat in a park"))
    delta = (
        SafeText([_CONCEPT], trained, train_steps=5).align(pipe).delta
    )  # how well it is aligned costs nothing

    def draw() -> None:
        generators = [torch.Generator().manual_seed(i) for i in range(_BATCH)]
        pipe(prompts, num_inference_steps=_STEPS, generator=generators)

    draw()  # to warm up
    plain, aligned, attaching = [], [], []
    for _ in range(_ROUNDS):
        plain.append(seconds(draw))
        attaching.append(seconds(lambda: delta.attach(pipe).detach()))
        with delta.attach(pipe):
            aligned.append(seconds(draw))
    figures: dict[str, float | None] = {
        "plain: s": median(plain),
        "aligned: s": median(aligned),
        "aligned / plain": median(a / b for a, b in zip(aligned, plain, strict=True)),
        "putting on and taking off: ms": 1000 * median(attaching),
    }
    return {"batch": _BATCH, "steps": _STEPS, "rounds": _ROUNDS}, figures
