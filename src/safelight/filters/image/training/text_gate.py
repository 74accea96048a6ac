"""Training of the text gate: a small network that tells where an image may show text.

It is trained on crops of photographs without text, on half of which text is rendered.
"""

from __future__ import annotations

import io
import string
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from safelight.errors import RequestError
from safelight.filters.image.training.photographs import photographs
from safelight.filters.image.training.rendered_text import fonts, random_style, render_text
from safelight.training.fit import fit, from_scratch, scaled, steps
from safelight.training.processes import device, launch, rank

# The side of a crop and of a cell of the network's output, in pixels.
SIDE, CELL = 192, 16
_BATCH = 16
_CROPS = 16_000
_SEED = 7
# Font sizes in pixels; the gate looks at larger text in an image that is scaled down.
_SIZES = (11, 64)
# A cell shows text if this share of it is covered by a line; cells with less are left out of the loss.
_COVERED = 0.5
_LETTERS = list(string.ascii_lowercase * 3 + string.digits + ".,!?'-")


class GateNetwork(nn.Module):
    """Maps RGB images (N, 3, H, W) in [0, 255] to logits of text, one for each cell of 16 by 16 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _block(3, 12, 2), _block(12, 16, 2), _block(16, 32, 2), _block(32, 32),
            _block(32, 48, 2), _block(48, 48), _block(48, 48), nn.Conv2d(48, 1, 1),
        )  # fmt: skip

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.body(pixels / 127.5 - 1)
        return logits[:, 0]


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


@dataclass(frozen=True, slots=True)
class Crop:
    """Pixels (SIDE, SIDE, 3), and the share of each cell that text covers, (SIDE / CELL, SIDE / CELL)."""

    pixels: NDArray[np.uint8]
    covered: NDArray[np.float32]


def train_text_gate(folder: Path, out: Path, work: Path, share: float = 1.0) -> None:
    """Train the gate on the images below ``folder``, which must not show text, and write ``out`` (ONNX).

    ``work`` keeps checkpoints, from which an interrupted training resumes; ``share`` scales the budget.
    Raises ``RequestError`` for a folder without images.
    """
    launch(_train, folder, out, work, scaled(_CROPS, share))


def _train(folder: Path, out: Path, work: Path, crops: int) -> None:
    torch.manual_seed(_SEED)
    images = read_photographs(folder)
    network = GateNetwork().to(device())

    def loss(rng: np.random.Generator) -> Tensor:
        batch = [crop(images, rng) for _ in range(_BATCH)]
        pixels = torch.from_numpy(np.stack([each.pixels for each in batch])).to(device()).permute(0, 3, 1, 2)
        covered = torch.from_numpy(np.stack([each.covered for each in batch])).to(device())
        return _loss(network(pixels.float()), covered)

    averaged = fit(
        network,
        loss,
        from_scratch(
            steps(crops, _BATCH),
            4e-3,
            ema_decay=0.99,
            max_grad_norm=5.0,
            checkpoint_every=100,
            lr_warmup_steps=40,
        ),
        work,
        "text-gate",
        _SEED,
    )
    if rank() == 0:
        export(averaged, out)


def read_photographs(folder: Path) -> list[Image.Image]:
    """Return the images below ``folder``, none of them larger than it needs to be.

    Raises ``RequestError`` if there is none, or one cannot be read.
    """
    images = []
    for image in photographs(folder):
        image.thumbnail((3 * SIDE, 3 * SIDE))
        if min(image.size) >= SIDE:
            images.append(image)
    if not images:
        raise RequestError(f"{folder} has no image of at least {SIDE} x {SIDE} pixels; give photographs.")
    return images


def crop(images: Sequence[Image.Image], rng: np.random.Generator) -> Crop:
    """Return a random part of a random image, or a plain colour; half of them have text on them."""
    background = _plain(rng) if rng.random() < 0.15 else _part(images[int(rng.integers(len(images)))], rng)
    mask = Image.new("L", background.size)
    if rng.random() < 0.5:
        font = fonts()[rng.integers(len(fonts()))]
        size = round(float(np.exp(rng.uniform(*np.log(_SIZES)))))
        style = random_style(rng, font, size, background)
        with suppress(RequestError):  # not one word fits
            text = render_text(background, _words(rng), style, (rng.random(), rng.random()))
            background, mask = text.image, text.mask
    turns = int(rng.integers(4)) if rng.random() < 0.2 else 0
    pixels, marked = (np.rot90(np.asarray(each), turns) for each in (_worn(background, rng), mask))
    cells = marked.reshape(SIDE // CELL, CELL, SIDE // CELL, CELL).mean((1, 3), dtype=np.float32) / 255
    return Crop(np.ascontiguousarray(pixels), cells)


def _plain(rng: np.random.Generator) -> Image.Image:
    """Return a colour that may change from top to bottom."""
    ends = rng.integers(0, 256, (2, 1, 3)) if rng.random() < 0.5 else rng.integers(0, 256, (1, 1, 3))
    column = Image.fromarray(ends.astype(np.uint8))
    return column.resize((SIDE, SIDE), Image.Resampling.BILINEAR)


def _part(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = int(rng.integers(SIDE, min(image.size) + 1))
    left, top = (int(rng.integers(0, length - side + 1)) for length in image.size)
    part = image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part


def _worn(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return the image blurred or saved as JPEG, as many images are."""
    if rng.random() < 0.25:
        small = round(SIDE * float(rng.uniform(0.6, 0.95)))
        image = image.resize((small, small), Image.Resampling.BILINEAR)
        image = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    if rng.random() < 0.25:
        file = io.BytesIO()
        image.save(file, "jpeg", quality=int(rng.integers(40, 90)))
        image = Image.open(file).convert("RGB")
    return image


def _words(rng: np.random.Generator) -> str:
    """Return random letters in the lengths of words: only their shapes matter."""
    words = []
    for _ in range(rng.integers(1, 13)):
        word = "".join(rng.choice(_LETTERS, rng.integers(2, 10)))
        words.append((word, word.title(), word.upper())[rng.choice(3, p=(0.6, 0.2, 0.2))])
    return " ".join(words)


def _loss(logits: Tensor, covered: Tensor) -> Tensor:
    logits = logits.float()
    shows = (covered >= _COVERED).float()
    ignored = (covered > 0) & (covered < _COVERED)
    # Focal weighting (Lin et al. 2017, eq. 5, gamma = 2): nearly all cells are easy.
    entropy = functional.binary_cross_entropy_with_logits(logits, shows, reduction="none")
    focus = (logits.sigmoid() - shows).abs().pow(2).masked_fill(ignored, 0)
    dense = (entropy * focus).sum() / shows.sum().clamp(min=1)
    present = (covered.flatten(1).amax(1) >= _COVERED).float()
    return dense + functional.binary_cross_entropy_with_logits(logits.flatten(1).amax(1), present)


def export(network: nn.Module, out: Path) -> None:
    """Write the network as ONNX for images of any size."""
    out.parent.mkdir(parents=True, exist_ok=True)
    axes = {"pixels": {0: "batch", 2: "height", 3: "width"}, "logits": {0: "batch", 1: "rows", 2: "columns"}}
    with warnings.catch_warnings():
        # The legacy exporter needs no further package, and warns that it is deprecated.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.cpu().eval(),
            (torch.zeros(1, 3, SIDE, SIDE),),
            str(out),
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_axes=axes,
            dynamo=False,
        )
