"""Steer images away from a concept while they are generated (Safe Latent Diffusion), with and without.

Nothing is trained and no weight is changed: the guidance is on for as long as it is attached.
"""

from pathlib import Path

import torch
from PIL import Image

import safelight
from safelight.alignment.guidance import SafeGuidance

PROMPT = "a soldier in a park"


def main() -> None:
    pipe = safelight.load_pipeline("storybook")

    def draw() -> Image.Image:
        return pipe(PROMPT, num_inference_steps=10, generator=torch.Generator().manual_seed(4)).images[0]

    images = [draw()]
    with SafeGuidance("strong", concept="a gun").attach(pipe) as attached:
        images.append(draw())
        acting = sum(step.acting > 0 for step in attached.traces[0].steps)
    print(f"guidance acted in {acting} of 10 steps; the image changed: {images[0] != images[1]}")
    folder = Path("example-output")
    folder.mkdir(exist_ok=True)
    for image, name in zip(images, ("unguided", "guided"), strict=True):
        image.save(folder / f"{name}.png")


if __name__ == "__main__":
    main()
