"""Intermediate predictions: the storybook model's x₀ at intermediate timesteps, decoded as images.

A filter that stops generations early screens such images. The latents of a scene are noised to a random
timestep, and the model predicts x₀ from there; the ground truth is that of the scene.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safelight.models.pipelines import load_pipeline
from safelight.storybook.training import renders
from safelight.storybook.training.autoencoder import to_images, to_tensor
from safelight.storybook.training.renders import Images, Renders, make_shards, render, save_array
from safelight.training.processes import bfloat16_pays, device, processes

_BATCH = 50
# Range of timesteps, of 1000: with 25 steps, between the seventh and the nineteenth step.
_EARLIEST, _LATEST = 720, 280
_GUIDANCE = 7.5


def intermediate_predictions(folder: Path, seed: int, count: int) -> Images:
    """Return an intermediate prediction for each of the first ``count`` renders of ``seed``.

    They are kept in ``folder`` beside the renders.
    """
    render(folder, seed, count)
    return Images(make_shards(folder, "half-made", seed, count, _make_shard), count)


def _make_shard(path: Path, seed: int, shard: int) -> None:
    if processes() > 1:
        torch.set_num_threads(1)
    first = shard * renders.SHARD
    scenes = Renders(path.parent, seed, first + renders.SHARD)
    pipe = load_pipeline("storybook", device=str(device()))
    rng, generator = random.Random(f"{seed} {shard}"), torch.Generator().manual_seed(seed * 10_000 + shard)
    made = []
    for start in range(first, len(scenes), _BATCH):
        rows = range(start, min(start + _BATCH, len(scenes)))
        captions = [rng.choice(scenes.truths[row].captions) for row in rows]
        made.append(predict_x0(pipe, scenes.images(rows), captions, generator))
    save_array(path, np.concatenate(made))


@torch.no_grad()
def predict_x0(
    pipe: Any, images: NDArray[np.uint8], captions: list[str], generator: torch.Generator
) -> NDArray[np.uint8]:
    """Return the decoded prediction of x₀ of each image (N, 64, 64, 3), each at a random timestep."""
    with torch.autocast(device().type, torch.bfloat16, enabled=bfloat16_pays()):
        latents = pipe.vae.encode(to_tensor(images)).latents.float()
        timesteps = torch.randint(_LATEST, _EARLIEST, (len(latents),), generator=generator)
        alphas = pipe.scheduler.alphas_cumprod[timesteps].to(latents.device)[:, None, None, None]
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        noisy = alphas.sqrt() * latents + (1 - alphas).sqrt() * noise
        output = _guided(pipe, noisy, timesteps.to(latents.device), captions)
        # Ho et al. 2020, eq. 4, solved for x₀.
        x0 = (noisy - (1 - alphas).sqrt() * output) / alphas.sqrt()
        decoded = pipe.vae.decode(x0).sample.float()
    return to_images(decoded)


def _guided(pipe: Any, noisy: Tensor, timesteps: Tensor, captions: list[str]) -> Tensor:
    """Return the noise prediction with classifier-free guidance (Ho & Salimans 2022, eq. 6; scale w + 1)."""
    prompt_embeds, negative_prompt_embeds = pipe.encode_prompt(captions, noisy.device, 1, True)
    both = pipe.unet(
        noisy.repeat(2, 1, 1, 1), timesteps.repeat(2), torch.cat([negative_prompt_embeds, prompt_embeds])
    ).sample
    uncond, cond = both.float().chunk(2)
    output: Tensor = uncond + _GUIDANCE * (cond - uncond)
    return output
