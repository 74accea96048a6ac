"""Training a new storybook denoiser on any images with captions, such as cleaned data.

Autoencoder, tokenizer and text encoder are those of the storybook model and do not change, just as Stable
Diffusion's CLIP knows words for objects that are not in the denoiser's training data.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor

from safelight.models.pipelines import load_pipeline
from safelight.storybook.scene import SIZE_PX
from safelight.storybook.training.autoencoder import to_tensor
from safelight.storybook.training.denoiser import UNCONDITIONAL_RATE, Denoising, token_ids
from safelight.storybook.training.storybook import write_model
from safelight.training.encoded import Data, Encoded, encode
from safelight.training.fit import fit, from_scratch, steps
from safelight.training.processes import device, launch, rank, workers

# Training samples: a quarter of the storybook's own training.
IMAGES = 300_000
# Global batch size: images per step and number of steps do not depend on the number of workers.
_BATCH = 128
_DATA = "data"


def train_from_data(
    data: Data, out: Path, work: Path, images: int = IMAGES, seed: int = 1, called: str = ""
) -> int:
    """Train on ``images`` uniformly drawn samples of ``data``, and return the number of examples in it.

    The model is written to ``out`` in the format of diffusers, fp16, with ``hashes.json``. Images are cropped
    to squares and resized to 64 by 64 pixels. ``work`` keeps latents and checkpoints, from which an
    interrupted training on the same data resumes. Lines of progress start with ``called``. Raises
    ``RequestError`` if there are no examples, or if ``work`` has other data.
    """
    pipe = load_pipeline("storybook", device="cpu")
    autoencoder = pipe.vae.float().to(device()).eval()
    encoded = encode(data, work / _DATA, SIZE_PX, partial(_latents, autoencoder))
    launch(_train, work, images, seed, called)
    pipe.unet = UNet2DConditionModel.from_pretrained(work / "model" / "unet")
    write_model(pipe, out, [work / "denoiser.curve.json"])
    return len(encoded)


@torch.no_grad()
def _latents(autoencoder: Any, images: NDArray[np.uint8]) -> NDArray[np.float16]:
    latents: Tensor = autoencoder.encode(to_tensor(images)).latents
    return latents.cpu().numpy().astype(np.float16)


def _train(work: Path, images: int, seed: int, called: str) -> None:
    pipe = load_pipeline("storybook", device="cpu")
    reader = pipe.text_encoder.float().to(device()).eval().requires_grad_(False)
    data = Encoded.read(work / _DATA)
    torch.manual_seed(seed)
    training = Denoising().to(device())
    share = max(1, _BATCH // workers())

    def loss(rng: np.random.Generator) -> Tensor:
        rows = rng.integers(len(data), size=share)
        conditional = rng.random(share) >= UNCONDITIONAL_RATE
        captions = [data.captions[row] if use else "" for row, use in zip(rows, conditional, strict=True)]
        ids = torch.from_numpy(token_ids(pipe.tokenizer, captions)).long().to(device())
        with torch.no_grad():
            states = reader(ids).last_hidden_state
        return training.error(torch.from_numpy(data.latents[rows].astype(np.float32)).to(device()), states)

    plan = from_scratch(steps(images, share), 1e-3, checkpoint_every=100)
    averaged = fit(training, loss, plan, work, "denoiser", seed, called)
    if rank() == 0:
        assert isinstance(averaged, Denoising)
        averaged.unet.save_pretrained(work / "model" / "unet")
