"""Training of the whole storybook model, from rendering scenes to the packaged folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from safelight.models.files import HASHES, copy_permissions, write_hashes
from safelight.storybook.training.autoencoder import encode, train_autoencoder, train_decoder
from safelight.storybook.training.denoiser import assemble, train_denoiser
from safelight.storybook.training.renders import Renders, save_array
from safelight.storybook.training.tokenizer import train_tokenizer
from safelight.training.curve_plot import draw_curves
from safelight.training.fit import scaled

_SEED = 1
_CAPTIONED = 20_000


@dataclass(frozen=True)
class Budget:
    """The number of scenes, and the number of training samples of each part."""

    scenes: int = 240_000
    autoencoder: int = 300_000
    decoder: int = 300_000
    denoiser: int = 1_200_000

    def scaled(self, share: float) -> Budget:
        """Return a budget ``share`` times as large, but large enough for every training to run."""
        return Budget(*(scaled(n, share) for n in astuple(self)))


def train_storybook(out: Path, work: Path, share: float = 1.0, start: Path | None = None) -> None:
    """Train the model and write it to ``out`` in the format of diffusers, fp16, with ``hashes.json``.

    ``work`` keeps renders, latents and checkpoints, from which an interrupted training resumes. ``share``
    scales the budget. ``start`` is the folder of such a model: its autoencoder and tokenizer do not change,
    and its denoiser and text encoder are trained further.
    """
    budget, renders = Budget().scaled(share), work / "renders"
    tokenizer, autoencoder = work / "tokenizer", work / "vae"
    if start:
        for part in (tokenizer, autoencoder):
            shutil.copytree(start / part.name, part, dirs_exist_ok=True)
    if not autoencoder.exists():
        _train_autoencoder(renders, budget, autoencoder, work)
    if not tokenizer.exists():
        captioned = Renders(renders, _SEED, min(_CAPTIONED, budget.scenes)).truths
        train_tokenizer(c for truth in captioned for c in truth.captions).save_pretrained(tokenizer)
    latents = _latents(autoencoder, Renders(renders, _SEED, budget.scenes), work)
    train_denoiser(
        renders, _SEED, budget.scenes, latents, tokenizer, budget.denoiser, work / "model", work, start
    )
    write_trained_model(work, out)


def _train_autoencoder(renders: Path, budget: Budget, out: Path, work: Path) -> None:
    """Train encoder and decoder, then the decoder alone, which is cheaper and determines the sharpness."""
    first = work / "autoencoder"
    if not first.exists():
        train_autoencoder(renders, _SEED, budget.scenes, budget.autoencoder, first, work)
    latents = _latents(first, Renders(renders, _SEED, budget.scenes), work)
    train_decoder(renders, _SEED, budget.scenes, latents, budget.decoder, first, out, work)


def write_trained_model(work: Path, out: Path) -> None:
    """Assemble the trained parts in ``work`` into the folder ``out``; averaged checkpoints work too."""
    pipe = assemble(
        AutoencoderTiny.from_pretrained(work / "vae"),
        CLIPTokenizer.from_pretrained(work / "tokenizer"),
        CLIPTextModel.from_pretrained(work / "model" / "text_encoder"),
        UNet2DConditionModel.from_pretrained(work / "model" / "unet"),
    )
    curves = (work / f"{name}.curve.json" for name in ("autoencoder", "decoder", "denoiser"))
    write_model(pipe, out, [path for path in curves if path.exists()])


def write_model(pipe: Any, out: Path, curves: Sequence[Path]) -> None:
    """Write a model in the format of diffusers, fp16, with ``hashes.json`` and its loss curves."""
    for part in (pipe.vae, pipe.unet):
        part.register_to_config(_name_or_path="storybook")  # not the folder it was trained in
    pipe.to(dtype=torch.float16).save_pretrained(out, safe_serialization=True)
    _load_in_single_precision(out / "text_encoder" / "config.json")
    copy_permissions(out)
    write_hashes(
        out, *(path.relative_to(out).as_posix() for path in out.rglob("*.json") if path.name != HASHES)
    )
    draw_curves(curves, out / "curves.png")


def _load_in_single_precision(config: Path) -> None:
    """Set the encoder's dtype to fp32; transformers would otherwise load it in the fp16 of the file."""
    settings = json.loads(config.read_text())
    config.write_text(json.dumps({**settings, "dtype": "float32"}, indent=2) + "\n")


def _latents(autoencoder: Path, renders: Renders, work: Path) -> Path:
    """Return the file of all renders' latents, named by the hash of the encoder, and written if missing."""
    vae = AutoencoderTiny.from_pretrained(autoencoder, torch_dtype=torch.float32)
    weights = b"".join(weight.numpy().tobytes() for weight in vae.encoder.state_dict().values())
    path = work / f"latents-{hashlib.sha256(weights).hexdigest()[:12]}-{len(renders)}.npy"
    if not path.exists():
        save_array(path, encode(vae, renders))
    return path
