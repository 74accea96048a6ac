"""Which autoencoder gives more decibels for its weights and its time: AutoencoderTiny or AutoencoderKL."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from safelight.storybook.training.autoencoder import (
    LATENT_CHANNELS,
    new_autoencoder,
    restoration_loss,
    signal_to_noise_db,
    to_tensor,
)
from safelight.storybook.training.renders import Renders
from safelight.training.processes import bfloat16_pays, device

SECONDS, BATCH, RATE = 600.0, 16, 2e-3
_TRAINED, _FRESH = 15_000, 500


def measure() -> tuple[dict[str, Any], dict[str, float | None]]:
    """Both trained for ``SECONDS`` on the same renders with the same loss; decibels on 500 others."""
    figures: dict[str, float | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        renders = Renders(Path(folder), 1, _TRAINED + _FRESH)
        for name, make in {"tiny": new_autoencoder, "kl": _new_kl}.items():
            torch.manual_seed(0)
            autoencoder = make().to(device(), memory_format=torch.channels_last)
            images = _train(autoencoder, renders)
            fresh = to_tensor(renders.images(range(_TRAINED, _TRAINED + _FRESH)))
            figures |= {
                f"{name}: million weights": sum(p.numel() for p in autoencoder.parameters()) / 1e6,
                f"{name}: images seen": images,
                **{f"{name}: {figure}": value for figure, value in _restoring(autoencoder, fresh).items()},
            }
    return {"seconds": SECONDS, "batch": BATCH, "rate": RATE}, figures


def _new_kl() -> AutoencoderKL:
    """Of about the weights of the other, with the same latents."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 48),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=LATENT_CHANNELS,
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )


def _train(autoencoder: nn.Module, renders: Renders) -> int:
    optimiser = torch.optim.AdamW(autoencoder.parameters(), RATE, betas=(0.9, 0.99), weight_decay=0.0)
    rng, started, steps = np.random.default_rng(0), time.monotonic(), 0
    while (done := (time.monotonic() - started) / SECONDS) < 1:
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (steps + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * done)))
        pixels = to_tensor(renders.images(rng.integers(_TRAINED, size=BATCH)))
        with torch.autocast(device().type, torch.bfloat16, enabled=bfloat16_pays()):
            loss = restoration_loss(_restored(autoencoder, pixels), pixels)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
        optimiser.step()
        steps += 1
    autoencoder.eval()
    return steps * BATCH


def _latents(autoencoder: Any, pixels: Tensor) -> Tensor:
    encoded = autoencoder.encode(pixels)
    latents: Tensor = encoded.latent_dist.mode() if "latent_dist" in encoded else encoded.latents
    return latents


def _restored(autoencoder: Any, pixels: Tensor) -> Tensor:
    restored: Tensor = autoencoder.decode(_latents(autoencoder, pixels)).sample
    return restored


@torch.no_grad()
def _restoring(autoencoder: nn.Module, fresh: Tensor) -> dict[str, float]:
    restored = _restored(autoencoder, fresh)
    started = time.perf_counter()
    _restored(autoencoder, fresh)
    return {
        "dB": signal_to_noise_db(restored, fresh),
        "images restored a second": len(fresh) / (time.perf_counter() - started),
    }
