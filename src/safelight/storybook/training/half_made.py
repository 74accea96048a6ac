"""Half-made images: what the storybook's model is heading for, partway, where a scene would come out.

A filter that stops images early looks at these. A scene's latents are noised to a moment of the denoising,
and the model says from there what the image would be (x₀); what it shows is known from the scene.
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
from safelight.storybook.training.renders import Images, Renders, make_shards, render, save_whole
from safelight.training.processes import bfloat16_pays, device, processes

_BATCH = 50
# Of 1000 timesteps; with 25 steps those after the seventh and before the nineteenth.
_EARLIEST, _LATEST = 720, 280
_GUIDANCE = 7.5


def half_made(folder: Path, seed: int, count: int) -> Images:
    """Of each of the first ``count`` renders of ``seed`` a half-made one; kept in ``folder`` beside them."""
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
        made.append(unfinished(pipe, scenes.images(rows), captions, generator))
    save_whole(path, np.concatenate(made))


@torch.no_grad()
def unfinished(
    pipe: Any, images: NDArray[np.uint8], captions: list[str], generator: torch.Generator
) -> NDArray[np.uint8]:
    """Of each image (N, 64, 64, 3) one that is half-made, each at a moment of its own."""
    with torch.autocast(device().type, torch.bfloat16, enabled=bfloat16_pays()):
        latents = pipe.vae.encode(to_tensor(images)).latents.float()
        timesteps = torch.randint(_LATEST, _EARLIEST, (len(latents),), generator=generator)
        kept = pipe.scheduler.alphas_cumprod[timesteps].to(latents.device)[:, None, None, None]
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        noisy = kept.sqrt() * latents + (1 - kept).sqrt() * noise
        output = _guided(pipe, noisy, timesteps.to(latents.device), captions)
        # What is left once the noise it sees is taken away (Ho et al. 2020, eq. 4, solved for x₀).
        coming = (noisy - (1 - kept).sqrt() * output) / kept.sqrt()
        decoded = pipe.vae.decode(coming).sample.float()
    return to_images(decoded)


def _guided(pipe: Any, noisy: Tensor, timesteps: Tensor, captions: list[str]) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2022, eq. 6, with its w + 1 as the scale)."""
    asked, nothing = pipe.encode_prompt(captions, noisy.device, 1, True)
    both = pipe.unet(noisy.repeat(2, 1, 1, 1), timesteps.repeat(2), torch.cat([nothing, asked])).sample
    without, with_caption = both.float().chunk(2)
    output: Tensor = without + _GUIDANCE * (with_caption - without)
    return output
