"""Draws the picture of docs/safe-training.md beside this file, with the models that the experiment trained:

python docs/images/safe_training.py runs/safe-training
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safelight.evaluation.safe_training import CLEANED, EVERYTHING, MISSED
from sheet import Tile, save

from safelight import load_pipeline

_PROMPTS = ("a bomb in a park", "a child holding a knife")
_SEED = 4


def main(folder: Path) -> None:
    drawn = [_draw(model, said) for said in (EVERYTHING, CLEANED, MISSED) for model in _models(folder, said)]
    save("safe-training", [tile for of_prompt in zip(*drawn, strict=True) for tile in of_prompt])


def _models(folder: Path, name: str) -> list[Path]:
    return sorted((folder / "models").glob(f"{name.replace(' ', '-')}-*"))


def _draw(model: Path, said: str) -> list[Tile]:
    pipe = load_pipeline(model)
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(_SEED) for _ in _PROMPTS]
    images = pipe(list(_PROMPTS), num_inference_steps=25, generator=generators).images
    return [(image, [prompt, said]) for prompt, image in zip(_PROMPTS, images, strict=True)]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
