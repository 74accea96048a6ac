"""Draws the pictures of docs/guidance.md beside this file: python docs/images/guidance.py"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from sheet import Tile, save

from safelight import load_pipeline
from safelight.alignment.guidance import Guidance, PromptProjection, SafeGuidance, Trace

_PROMPTS = ("a soldier in a park", "a rabbit in a park")
_SEED = 3
_ASKED = (("a house on fire", "a fire"), ("a dog beside a bomb", "a bomb"))


def main() -> None:
    pipe = load_pipeline("storybook")
    pipe.set_progress_bar_config(disable=True)
    tiles: list[Tile] = []
    traces: list[Trace] = []
    for number, prompt in enumerate(_PROMPTS):
        before, _ = _drawn(pipe, prompt, _SEED + number, None)
        after, trace = _drawn(pipe, prompt, _SEED + number, SafeGuidance("strong", "a gun"))
        tiles += [(before, [prompt, "as it is"]), (after, [prompt, '"strong", away from "a gun"'])]
        traces += trace
    save("guidance", tiles)
    save("projection", [tile for asked in _ASKED for tile in _ways(pipe, *asked)])
    plots = [trace.plot() for trace in traces]
    both = Image.new("RGB", (sum(plot.width for plot in plots), plots[0].height), "white")
    for number, plot in enumerate(plots):
        both.paste(plot, (number * plot.width, 0))
    both.quantize(64).save(Path(__file__).with_name("guidance-traces.png"), optimize=True)


def _ways(pipe: Any, prompt: str, concept: str) -> list[Tile]:
    ways = {
        "as it is": None,
        f'less "{concept}"': PromptProjection(concept),
        f'"max", away from "{concept}"': SafeGuidance("max", concept),
    }
    return [(_drawn(pipe, prompt, _SEED - 1, way)[0], [prompt, name]) for name, way in ways.items()]


def _drawn(
    pipe: Any, prompt: str, seed: int, guidance: Guidance | None
) -> tuple[Image.Image, tuple[Trace, ...]]:
    with guidance.attach(pipe) if guidance else nullcontext() as attached:
        generator = torch.Generator().manual_seed(seed)
        (image,) = pipe(prompt, num_inference_steps=25, generator=generator).images
        return image, attached.traces if attached else ()


if __name__ == "__main__":
    main()
