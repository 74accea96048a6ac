"""A new storybook denoiser from images and captions, whatever made them and whatever is left of them.

Autoencoder, tokenizer and text encoder are those of the storybook model and stay as they are, as the CLIP of
Stable Diffusion knows words for things that its denoiser need never see.
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
from safelight.storybook.training.denoiser import UNCONDITIONAL, Denoising, token_ids
from safelight.storybook.training.storybook import write_model
from safelight.training.encoded import Data, Encoded, encode
from safelight.training.fit import fit, from_scratch, steps
from safelight.training.processes import device, launch, rank, workers

# Of the storybook's own training, a quarter: images seen.
IMAGES = 300_000
# Of all workers together: as many images a step, and as many steps, however many there are.
_BATCH = 128
_DATA = "data"


def train_from_data(
    data: Data, out: Path, work: Path, images: int = IMAGES, seed: int = 1, called: str = ""
) -> int:
    """Train on ``images`` samples of ``data``, each as likely, and write the model to ``out``, in the
    format of diffusers, fp16, with ``hashes.json``. Gives how many examples there are.

    Images become 64 pixels wide and high, cut to a square. ``work`` keeps latents and checkpoints: called
    again with the same ``work`` and data, it goes on where it was stopped. Lines of progress say ``called``.
    Raises ``RequestError`` without examples, and for other data than ``work`` has.
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
        asked = rng.random(share) >= UNCONDITIONAL
        captions = [data.captions[row] if told else "" for row, told in zip(rows, asked, strict=True)]
        ids = torch.from_numpy(token_ids(pipe.tokenizer, captions)).long().to(device())
        with torch.no_grad():
            states = reader(ids).last_hidden_state
        return training.error(torch.from_numpy(data.latents[rows].astype(np.float32)).to(device()), states)

    plan = from_scratch(steps(images, share), 1e-3, checkpoint_every=100)
    averaged = fit(training, loss, plan, work, "denoiser", seed, called)
    if rank() == 0:
        assert isinstance(averaged, Denoising)
        averaged.unet.save_pretrained(work / "model" / "unet")
