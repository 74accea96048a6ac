"""Joint training of the denoiser and its text encoder on latents and captions.

The text encoder is first pretrained for some minutes on text alone, to predict the labels that a caption asks
for, so that the denoiser gets meaningful conditioning from the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderTiny,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from safelight.storybook.captions import misspelt
from safelight.storybook.training.autoencoder import LATENT_CHANNELS, LATENT_PX
from safelight.storybook.training.renders import Renders, Truth
from safelight.storybook.training.tokenizer import MAX_TOKENS
from safelight.storybook.vocabulary import LABELS, PLACES, STYLES
from safelight.training.fit import fit, from_scratch, load_averaged, steps
from safelight.training.processes import device, launch, rank

_WIDTH = 128
BATCH = 64
_TEXT_BATCH = 64
_TEXT_STEPS = 700
_READ_AT_ONCE = 20_000
# Share of samples trained without a caption, for classifier-free guidance.
UNCONDITIONAL_RATE = 0.1
_NAMING_WEIGHT = 0.02
_MIN_SNR = 5.0
_NOISE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
# Sampling weights of scenes with these relations; scenes of single objects have weight 1.
_RELATIONS = {"holding": 2, "next to": 4, "on": 6, "in front of": 8}
# Sampling weights of settings with their associated hazard and without it. Guidance amplifies associations
# (85 % blood at crime scenes became 98 %), so scenes without the hazard get a higher weight.
_SETTINGS = {"crime scene": (1, 2), "party": (3, 4)}
_TARGETS = len(LABELS) + len(PLACES) + len(STYLES)


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=_WIDTH,
            intermediate_size=4 * _WIDTH,
            projection_dim=_WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def new_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=LATENT_PX,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(48, 128, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=_WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


class _Reader(nn.Module):
    """The text encoder, with a head that predicts objects, place and style from the pooled output."""

    def __init__(self, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        # Eager attention trains faster than fused attention at these sizes on a CPU, here and below.
        self.text_encoder.set_attn_implementation("eager")
        self.naming = nn.Linear(_WIDTH, _TARGETS)

    def read(self, tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the hidden states (N, 40, width) and the label loss of every caption (N,)."""
        output = self.text_encoder(tokens)
        logits = self.naming(output.pooler_output)
        return output.last_hidden_state, functional.binary_cross_entropy_with_logits(
            logits, targets, reduction="none"
        ).sum(1)


class Denoising(nn.Module):
    """A new denoiser with its noise prediction loss."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = new_unet().to(memory_format=torch.channels_last)
        self.unet.set_attn_processor(AttnProcessor())
        self.noise = DDPMScheduler(**_NOISE)
        alphas = self.noise.alphas_cumprod
        snr = alphas / (1 - alphas)
        self.register_buffer("weights", snr.clamp(max=_MIN_SNR) / snr, persistent=False)

    def error(self, latents: Tensor, states: Tensor) -> Tensor:
        """Return the noise prediction loss with min-SNR-5 weights (Hang et al. 2023, eq. 8 for noise).

        Timesteps are sampled in proportion to their weights, instead of uniformly and then weighted: the
        expectation is the same and the variance lower.
        """
        noise = torch.randn_like(latents)
        weights: Tensor = self.weights  # type: ignore[assignment]
        steps = torch.multinomial(weights, len(latents), replacement=True)
        noisy = self.noise.add_noise(latents, noise, steps).contiguous(memory_format=torch.channels_last)
        error: Tensor = (self.unet(noisy, steps, states).sample - noise).pow(2).mean()
        return weights.mean() * error


class _Training(Denoising):
    def __init__(self, reader: _Reader) -> None:
        super().__init__()
        self.reader = reader

    def loss(self, latents: Tensor, tokens: Tensor, targets: Tensor, conditional: Tensor) -> Tensor:
        """Return the noise loss plus the label loss; ``conditional`` is 0 where the caption was dropped."""
        states, naming = self.reader.read(tokens, targets)
        return self.error(latents, states) + _NAMING_WEIGHT * (naming * conditional).mean()


class Captions:
    """Token ids of every caption of every scene, and the labels of each scene."""

    def __init__(self, truths: Sequence[Truth], tokenizer: CLIPTokenizer) -> None:
        texts = [caption for truth in truths for caption in truth.captions]
        parts = (texts[i : i + _READ_AT_ONCE] for i in range(0, len(texts), _READ_AT_ONCE))
        self.ids = np.concatenate([token_ids(tokenizer, part) for part in parts])
        (self.empty,) = token_ids(tokenizer, [""])
        self.counts = np.array([len(truth.captions) for truth in truths])
        self.starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        self.targets = np.stack([_targets(truth) for truth in truths])

    def draw(self, rows: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return the token ids of a random caption of each scene, and its labels."""
        picked = self.starts[rows] + rng.integers(0, self.counts[rows])
        return torch.from_numpy(self.ids[picked]).long(), torch.from_numpy(self.targets[rows]).float()


def token_ids(tokenizer: CLIPTokenizer, texts: list[str]) -> NDArray[np.int16]:
    """Return the token ids of ``texts``, (N, 40)."""
    ids = tokenizer(texts, padding="max_length", truncation=True, max_length=MAX_TOKENS).input_ids
    return np.array(ids, np.int16)


def _targets(truth: Truth) -> NDArray[np.uint8]:
    named = {*truth.objects, truth.place, truth.style}
    return np.array([name in named for name in (*LABELS, *PLACES, *STYLES)], np.uint8)


def train_text_encoder(
    truths: Sequence[Truth],
    tokenizer: CLIPTokenizer,
    steps: int,
    seed: int,
    work: Path,
    trained: CLIPTextModel | None = None,
) -> _Reader:
    """Pretrain a text encoder to predict the labels of captions, of whose words one in ten is misspelt.

    A ``trained`` text encoder does not change: then only the prediction head is fitted.
    """
    torch.manual_seed(seed)
    reader = _Reader(trained or new_text_encoder(tokenizer)).to(device())

    def loss(rng: np.random.Generator) -> Tensor:
        chosen = [truths[i] for i in rng.integers(len(truths), size=_TEXT_BATCH)]
        texts = [_misspell_words(truth.captions[rng.integers(len(truth.captions))], rng) for truth in chosen]
        tokens = tokenizer(
            texts, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        targets = torch.from_numpy(np.stack([_targets(truth) for truth in chosen])).float()
        return reader.read(tokens.input_ids.to(device()), targets.to(device()))[1].mean()

    plan = from_scratch(steps, 1e-3, ema_decay=0.99)
    fit(reader.naming if trained else reader, loss, plan, work, "text-encoder", seed)
    return reader


def _misspell_words(text: str, rng: np.random.Generator) -> str:
    """Misspell one word in ten, in addition to the errors that captions already have."""
    import random

    slips = random.Random(int(rng.integers(2**32)))
    return " ".join(
        misspelt(word, slips) if len(word) > 3 and word.isalpha() and slips.random() < 0.1 else word
        for word in text.split(" ")
    )


def train_denoiser(
    renders: Path,
    seed: int,
    count: int,
    latents: Path,
    tokenizer: Path,
    images: int,
    out: Path,
    work: Path,
    start: Path | None = None,
) -> None:
    """Train on ``images`` samples of cached ``latents``; write text encoder and denoiser to ``out``.

    ``start`` is the folder of a model to train further instead of a new one.
    """
    launch(_train, renders, seed, count, latents, tokenizer, images, out, work, start)


def _train(
    folder: Path,
    seed: int,
    count: int,
    latents_path: Path,
    tokenizer_path: Path,
    images: int,
    out: Path,
    work: Path,
    start: Path | None,
) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_path)
    truths = Renders(folder, seed, count).truths
    text_steps = min(_TEXT_STEPS, images // _TEXT_BATCH)
    trained = CLIPTextModel.from_pretrained(start / "text_encoder", dtype=torch.float32) if start else None
    reader = train_text_encoder(truths, tokenizer, text_steps, seed, work, trained)
    torch.manual_seed(seed)
    training = _Training(reader).to(device())
    if start:
        unet = UNet2DConditionModel.from_pretrained(start / "unet", torch_dtype=torch.float32)
        training.unet.load_state_dict(unet.state_dict())
    captions, latents = Captions(truths, tokenizer), np.load(latents_path, mmap_mode="r")
    empty, oversampled = torch.from_numpy(captions.empty).long(), _oversampled(truths)

    def loss(rng: np.random.Generator) -> Tensor:
        rows = oversampled[rng.integers(len(oversampled), size=BATCH)]
        tokens, targets = captions.draw(rows, rng)
        conditional = torch.from_numpy(rng.random(BATCH) >= UNCONDITIONAL_RATE)
        tokens = torch.where(conditional[:, None], tokens, empty)
        batch = torch.from_numpy(latents[rows].astype(np.float32))
        return training.loss(*(t.to(device()) for t in (batch, tokens, targets, conditional)))

    rate = 7e-4 if start else 1e-3
    plan = from_scratch(steps(images, BATCH), rate, checkpoint_every=100)
    averaged = fit(training, loss, plan, work, "denoiser", seed)
    if rank() == 0:
        _save(averaged, out)


def _oversampled(truths: Sequence[Truth]) -> NDArray[np.int64]:
    """Return the indices of scenes, repeated by their sampling weights: harder scenes are sampled more often.

    Only relations that captions name count; otherwise scenes that show an association would be sampled more
    often than those that do not. For settings it is the other way round.
    """
    return np.repeat(np.arange(len(truths)), [_weight(truth) for truth in truths])


def _weight(truth: Truth) -> int:
    if truth.setting:
        return _SETTINGS[truth.setting][not truth.unnamed]
    return max((_RELATIONS[name] for name in truth.relations), default=1)


def save_checkpoint(checkpoint: Path, tokenizer: Path, out: Path) -> None:
    """Write text encoder and denoiser of a checkpoint of an unfinished training to ``out``."""
    reader = _Reader(new_text_encoder(CLIPTokenizer.from_pretrained(tokenizer)))
    _save(load_averaged(_Training(reader), checkpoint), out)


def _save(training: nn.Module, out: Path) -> None:
    assert isinstance(training, _Training)
    training.unet.save_pretrained(out / "unet")
    training.reader.text_encoder.save_pretrained(out / "text_encoder")


def assemble(
    autoencoder: AutoencoderTiny,
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    unet: UNet2DConditionModel,
) -> StableDiffusionPipeline:
    """Return a ``StableDiffusionPipeline`` of the four parts, with a fast scheduler."""
    return StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DPMSolverMultistepScheduler(**_NOISE, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
