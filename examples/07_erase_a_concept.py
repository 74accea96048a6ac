"""Erase a concept from a model's weights in closed form (Unified Concept Editing), as a small delta.

The delta is a file. It is applied to a loaded model and reverted in milliseconds, or written into a copy of
the model with `safelight apply`.
"""

from pathlib import Path

import torch

import safelight
from safelight.alignment.delta.delta import Delta
from safelight.alignment.diffusion import UCE

FILE = Path("example-output") / "gun.safetensors"


def main() -> None:
    pipe = safelight.load_pipeline("storybook")
    delta = UCE(["gun, a gun, pistol"], target="flower", preserve=["dog", "cat"]).align(pipe).delta
    FILE.parent.mkdir(exist_ok=True)
    delta.save(FILE)
    print(
        f"{len(delta.tensors)} parameters of {', '.join(delta.parts)} changed, {FILE.stat().st_size:,} bytes"
    )

    def draw() -> bytes:
        generator = torch.Generator().manual_seed(1)
        return pipe("a pistol on a table", num_inference_steps=8, generator=generator).images[0].tobytes()

    before = draw()
    with Delta.load(FILE).attach(pipe):
        print("with the delta the image changed:", draw() != before)
    print("without it the image is bit for bit the same:", draw() == before)


if __name__ == "__main__":
    main()
