"""A new storybook denoiser from pictures and captions, whatever made them and whatever is left of them.

Autoencoder, tokenizer and text encoder are those of the storybook model and stay as they are, as the CLIP of
Stable Diffusion knows words for things that its denoiser need never see.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from safelight.errors import ImageError, RequestError
from safelight.models import load_pipeline
from safelight.pictures import open_picture
from safelight.storybook.scene import SIZE_PX
from safelight.storybook.training.autoencoder import to_tensor
from safelight.storybook.training.denoiser import BATCH, UNCONDITIONAL, Denoising, token_ids
from safelight.storybook.training.renders import save_whole
from safelight.storybook.training.storybook import write_model
from safelight.training.loop import Fit, device, fit, launch, rank, steps

# Of the storybook's own training, a quarter: pictures seen.
IMAGES = 300_000
_AT_ONCE = 250


@dataclass(frozen=True, slots=True)
class Example:
    """A picture as it is encoded, and its caption; ``id`` says which one it is."""

    id: str
    picture: bytes
    caption: str


def train_from_data(
    examples: Iterable[Example], out: Path, work: Path, images: int = IMAGES, seed: int = 1
) -> int:
    """Train on ``images`` samples of ``examples``, each as likely, and write the model to ``out``, in the
    format of diffusers, fp16, with ``hashes.json``. Gives how many examples there are.

    Pictures become 64 pixels wide and high, cut to a square. ``work`` keeps latents and checkpoints: called
    again with the same ``work`` and examples, it goes on where it was stopped. Raises ``RequestError``
    without examples, and for other ones than ``work`` has.
    """
    pipe = load_pipeline("storybook", device="cpu")
    work.mkdir(parents=True, exist_ok=True)
    count = _read(pipe, examples, work)
    launch(_train, work, images, seed)
    pipe.unet = UNet2DConditionModel.from_pretrained(work / "model" / "unet")
    write_model(pipe, out, [work / "denoiser.curve.json"])
    return count


def _read(pipe: Any, examples: Iterable[Example], work: Path) -> int:
    """Writes latents and token ids into ``work``."""
    digest, captions, latents = sha256(), list[str](), list[NDArray[np.float16]]()
    rest = iter(examples)
    autoencoder = pipe.vae.float().to(device()).eval()
    while chunk := list(islice(rest, _AT_ONCE)):
        whole = [(each, small) for each in chunk if (small := _small(each.picture)) is not None]
        for each, _ in whole:
            digest.update(f"{each.id}\n".encode("utf-8", "surrogateescape"))
        captions += [each.caption for each, _ in whole]
        if whole:
            latents.append(_encoded(autoencoder, np.stack([small for _, small in whole])))
    if not captions:
        raise RequestError(
            "there is no sample with a picture and a caption in the data; nothing to train on."
        )
    about = work / "data.json"
    said = {"samples": len(captions), "sha256": digest.hexdigest()}
    if about.exists() and json.loads(about.read_text()) != said:
        raise RequestError(f"{work} was begun with other data; give another --work.")
    save_whole(work / "latents.npy", np.concatenate(latents))
    ids = [token_ids(pipe.tokenizer, captions[i : i + 20_000]) for i in range(0, len(captions), 20_000)]
    save_whole(work / "tokens.npy", np.concatenate(ids))
    about.write_text(json.dumps(said) + "\n")
    return len(captions)


def _small(picture: bytes) -> NDArray[np.uint8] | None:
    """(64, 64, 3) of the middle of its first frame."""
    try:
        frame = next(iter(open_picture(picture)), None)
    except ImageError:
        return None
    if frame is None:
        return None
    side = min(frame.size)
    left, top = (frame.width - side) // 2, (frame.height - side) // 2
    square = frame.crop((left, top, left + side, top + side))
    if side != SIZE_PX:
        square = square.resize((SIZE_PX, SIZE_PX), Image.Resampling.LANCZOS)
    return np.asarray(square)


@torch.no_grad()
def _encoded(autoencoder: Any, pictures: NDArray[np.uint8]) -> NDArray[np.float16]:
    latents: Tensor = autoencoder.encode(to_tensor(pictures)).latents
    return latents.cpu().numpy().astype(np.float16)


def _train(work: Path, images: int, seed: int) -> None:
    pipe = load_pipeline("storybook", device="cpu")
    reader = pipe.text_encoder.float().to(device()).eval().requires_grad_(False)
    latents, tokens = (np.load(work / f"{name}.npy", mmap_mode="r") for name in ("latents", "tokens"))
    (empty,) = token_ids(pipe.tokenizer, [""])
    torch.manual_seed(seed)
    training = Denoising().to(device())

    def loss(rng: np.random.Generator) -> Tensor:
        rows = rng.integers(len(latents), size=BATCH)
        asked = rng.random(BATCH) >= UNCONDITIONAL
        ids = torch.from_numpy(np.where(asked[:, None], tokens[rows], empty)).long().to(device())
        with torch.no_grad():
            states = reader(ids).last_hidden_state
        return training.error(torch.from_numpy(latents[rows].astype(np.float32)).to(device()), states)

    plan = Fit("denoiser", steps(images, BATCH), 1e-3, seed, checkpoint_every=100)
    averaged = fit(training, loss, plan, work)
    if rank() == 0:
        assert isinstance(averaged, Denoising)
        averaged.unet.save_pretrained(work / "model" / "unet")
