"""The autoencoder, between 64 by 64 images and 16 by 16 latents of 8 channels.

It is an ``AutoencoderTiny``, of convolutions without normalisation or sampling. The group norms of
``AutoencoderKL`` at full resolution make each step about three times as slow on a CPU.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from numpy.typing import NDArray
from torch import Tensor, nn

from safelight.storybook.training.renders import Renders, render
from safelight.training.fit import fit, from_scratch, steps
from safelight.training.processes import bfloat16_pays, device, launch, rank

LATENT_CHANNELS = 8
LATENT_PX = 16
_BATCH = 16
_NOISE = 0.05
_NOISE_LEFT = 0.03


def new_autoencoder() -> AutoencoderTiny:
    return AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32),
        decoder_block_out_channels=(32, 32, 32),
        num_encoder_blocks=(0, 1, 3),
        num_decoder_blocks=(5, 2, 1),
        latent_channels=LATENT_CHANNELS,
        upsampling_scaling_factor=2,
    )


class _Training(nn.Module):
    """Encoder, batch norm of the latents, a little noise, decoder.

    The batch norm gives every latent channel zero mean and unit variance, as the denoiser expects; after
    training it is folded into the encoder's last convolution.
    """

    def __init__(self) -> None:
        super().__init__()
        self.autoencoder = new_autoencoder()
        self.norm = nn.BatchNorm2d(LATENT_CHANNELS, affine=False, momentum=0.02)

    def loss(self, pixels: Tensor) -> Tensor:
        latents = self.norm(self.autoencoder.encode(pixels).latents)
        noisy = latents + _NOISE * torch.randn_like(latents)
        restored: Tensor = self.autoencoder.decode(noisy).sample
        return restoration_loss(restored, pixels)

    def fold(self) -> AutoencoderTiny:
        last = self.autoencoder.encoder.layers[-1]
        mean, var = self.norm.running_mean, self.norm.running_var
        assert isinstance(mean, Tensor)
        assert isinstance(var, Tensor)
        scale = (var + self.norm.eps).rsqrt()
        with torch.no_grad():
            last.weight.mul_(scale[:, None, None, None])
            last.bias.sub_(mean).mul_(scale)
        return self.autoencoder


def restoration_loss(restored: Tensor, pixels: Tensor) -> Tensor:
    """Return the loss of both trainings: the mean squared error plus 0.05 times the mean absolute error."""
    difference = restored - pixels
    loss: Tensor = difference.pow(2).mean() + 0.05 * difference.abs().mean()
    return loss


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """Convert images (N, 64, 64, 3) of bytes to a tensor (N, 3, 64, 64) in [-1, 1]."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixels.contiguous(memory_format=torch.channels_last).to(device())


def to_images(pixels: Tensor) -> NDArray[np.uint8]:
    """Convert a tensor (N, 3, 64, 64) in [-1, 1] back to images, the inverse of :func:`to_tensor`."""
    images: NDArray[np.uint8] = (
        ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    )
    return images


def train_autoencoder(renders: Path, seed: int, count: int, images: int, out: Path, work: Path) -> None:
    """Train on ``images`` images drawn from the first ``count`` renders of ``seed``; write ``out``."""
    render(renders, seed, count)
    launch(_train, renders, seed, count, images, out, work)


def _train(folder: Path, seed: int, count: int, images: int, out: Path, work: Path) -> None:
    renders = Renders(folder, seed, count)
    torch.manual_seed(seed)
    training = _Training().to(device())

    def loss(rng: np.random.Generator) -> Tensor:
        return training.loss(to_tensor(renders.images(rng.integers(len(renders), size=_BATCH))))

    plan = from_scratch(steps(images, _BATCH), 2e-3, ema_decay=0.998, weight_decay=0.0)
    averaged = fit(training, loss, plan, work, "autoencoder", seed)
    if rank() == 0:
        assert isinstance(averaged, _Training)
        averaged.fold().half().save_pretrained(out)


class _Decoding(nn.Module):
    """The decoder alone, with a little noise on the latents, as a denoiser leaves."""

    def __init__(self, autoencoder: AutoencoderTiny) -> None:
        super().__init__()
        self.decoder = autoencoder.decoder

    def loss(self, latents: Tensor, pixels: Tensor) -> Tensor:
        restored: Tensor = self.decoder(latents + _NOISE_LEFT * torch.randn_like(latents))
        return restoration_loss(restored, pixels)


def train_decoder(
    renders: Path, seed: int, count: int, latents: Path, images: int, start: Path, out: Path, work: Path
) -> None:
    """Train the decoder of the autoencoder in ``start`` further on ``images`` images, and write ``out``.

    The encoder does not change, so models trained on its ``latents`` stay valid.
    """
    launch(_train_decoder, renders, seed, count, latents, images, start, out, work)


def _train_decoder(
    folder: Path, seed: int, count: int, latents_path: Path, images: int, start: Path, out: Path, work: Path
) -> None:
    renders, latents = Renders(folder, seed, count), np.load(latents_path, mmap_mode="r")
    autoencoder = AutoencoderTiny.from_pretrained(start, torch_dtype=torch.float32)
    training = _Decoding(autoencoder).to(device())

    def loss(rng: np.random.Generator) -> Tensor:
        rows = rng.integers(len(renders), size=_BATCH)
        batch = torch.from_numpy(latents[rows].astype(np.float32))
        batch = batch.contiguous(memory_format=torch.channels_last).to(device())
        return training.loss(batch, to_tensor(renders.images(rows)))

    plan = from_scratch(steps(images, _BATCH), 1e-3, ema_decay=0.998, weight_decay=0.0)
    averaged = fit(training, loss, plan, work, "decoder", seed)
    if rank() == 0:
        assert isinstance(averaged, _Decoding)
        autoencoder.decoder.load_state_dict(averaged.decoder.state_dict())
        autoencoder.half().save_pretrained(out)


@torch.no_grad()
def encode(autoencoder: AutoencoderTiny, renders: Renders, batch: int = 250) -> NDArray[np.float16]:
    """Return the latents (N, 8, 16, 16) of all renders."""
    latents = np.empty((len(renders), LATENT_CHANNELS, LATENT_PX, LATENT_PX), np.float16)
    for start in range(0, len(renders), batch):
        rows = range(start, min(start + batch, len(renders)))
        with torch.autocast(device().type, torch.bfloat16, enabled=bfloat16_pays()):
            encoded = autoencoder.encode(to_tensor(renders.images(rows))).latents
        latents[start : rows.stop] = encoded.float().cpu().numpy()
    return latents


@torch.no_grad()
def reconstruction_db(autoencoder: AutoencoderTiny, images: NDArray[np.uint8]) -> float:
    """Return the mean peak signal-to-noise ratio over ``images``, in dB."""
    pixels = to_tensor(images)
    return signal_to_noise_db(autoencoder.decode(autoencoder.encode(pixels).latents).sample, pixels)


def signal_to_noise_db(restored: Tensor, pixels: Tensor) -> float:
    """Return the mean peak signal-to-noise ratio of images (N, 3, H, W) in [-1, 1], in dB."""
    error = ((restored.clamp(-1, 1) - pixels) / 2).pow(2).mean((1, 2, 3))
    return float((-10 * torch.log10(error)).mean())
