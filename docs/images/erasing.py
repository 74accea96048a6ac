"""Draws the picture of docs/erasing.md beside this file: python docs/images/erasing.py"""

from __future__ import annotations

import torch
from sheet import Tile, save

from safelight import load_pipeline
from safelight.alignment.diffusion import UCE

_PROMPTS = ("a gun on the street", "a revolver in the park", "a dog in the park")
_SEED = 4


def main() -> None:
    pipe = load_pipeline("storybook")
    pipe.set_progress_bar_config(disable=True)
    delta = UCE(["gun, a gun, pistol, revolver"], target="flower", preserve=["dog"]).align(pipe).delta

    def draw(said: str) -> list[Tile]:
        generators = [torch.Generator().manual_seed(_SEED) for _ in _PROMPTS]
        images = pipe(list(_PROMPTS), num_inference_steps=25, generator=generators).images
        return [(image, [prompt, said]) for prompt, image in zip(_PROMPTS, images, strict=True)]

    before = draw("as it is")
    with delta.attach(pipe):
        after = draw("edited")
    save("erasing", [tile for pair in zip(before, after, strict=True) for tile in pair])


if __name__ == "__main__":
    main()
