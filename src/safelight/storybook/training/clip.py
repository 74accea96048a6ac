"""Training of the storybook's CLIP: a network for images and one for texts that meet in one space.

What belongs together is near and what does not is far (InfoNCE with the other items of the batch as
negatives; Radford et al. 2021, figure 3). Batches are made of scenes that share place, style and one object,
so that telling them apart takes the others. Since truth is exact, a text that happens to be true of another
image of the batch is no negative for it.
"""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from safelight.models.files import write_hashes
from safelight.storybook.training.autoencoder import to_tensor
from safelight.storybook.training.detector import Residual, augment, block, write_onnx
from safelight.storybook.training.renders import Renders, Truth, render
from safelight.storybook.vocabulary import LABELS, PLACES, STYLES, THINGS, with_article
from safelight.training.fit import fit, from_scratch, steps
from safelight.training.processes import device, launch, rank

_TOKENIZER = Path(__file__).parents[1] / "model" / "tokenizer" / "tokenizer.json"
_SEED, _STORYBOOK = 303, 31
_SCENES, _IMAGES = 60_000, 400_000
_WIDTH, _DEPTH, _HEADS, _MAX_TOKENS = 96, 2, 4, 40
_DIMENSIONS = 128
_BATCH, _ALIKE = 128, 4
# How many texts name one thing of the image and nothing else.
_SHORT = 0.3
_OPENERS = ("{}", "{}", "a photo of {}", "a picture of {}", "an image of {}")
_FACTS = (*LABELS, *PLACES, *STYLES)


class ImageTower(nn.Module):
    """Images (N, 3, 64, 64), in [-1, 1], to embeddings (N, 128) of length one.

    Both the mean and the highest activation over the image count: what is small must not drown.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            block(3, 24, 2, kernel=5),
            block(24, 48, 2),
            Residual(48),
            block(48, 96, 2),
            Residual(96),
            Residual(96),
            block(96, 256, kernel=1),
        )
        self.projection = nn.Linear(2 * 256, _DIMENSIONS)

    def forward(self, pixels: Tensor) -> Tensor:
        cells = self.body(pixels)
        pooled = torch.cat([cells.mean((2, 3)), cells.amax((2, 3))], 1)
        return functional.normalize(self.projection(pooled), dim=1)


class _Attention(nn.Module):
    """Every token sees those before it and itself (Vaswani et al. 2017, eq. 1), in a residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(_WIDTH) for _ in range(2))
        self.heads = nn.Linear(_WIDTH, 3 * _WIDTH)
        self.merge = nn.Linear(_WIDTH, _WIDTH)
        self.mlp = nn.Sequential(nn.Linear(_WIDTH, 4 * _WIDTH), nn.GELU(), nn.Linear(4 * _WIDTH, _WIDTH))

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """``x`` (N, L, width); ``hidden`` (L, L) is 0 where a token may look and far below elsewhere."""
        parts = self.heads(self.norms[0](x)).unflatten(2, (3, _HEADS, _WIDTH // _HEADS))
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        weights = query @ key.transpose(2, 3) / math.sqrt(_WIDTH // _HEADS) + hidden
        x = x + self.merge((weights.softmax(3) @ value).transpose(1, 2).flatten(2))
        out: Tensor = x + self.mlp(self.norms[1](x))
        return out


class TextTower(nn.Module):
    """Token ids (N, L), L at most 40, to embeddings (N, 128) of length one.

    A text's embedding is read where it ends: at its first end-of-text token, which has the highest id.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, _WIDTH)
        self.positions = nn.Parameter(0.01 * torch.randn(_MAX_TOKENS, _WIDTH))
        self.blocks = nn.ModuleList(_Attention() for _ in range(_DEPTH))
        self.norm = nn.LayerNorm(_WIDTH)
        self.projection = nn.Linear(_WIDTH, _DIMENSIONS)
        # Not minus infinity, of which averaging the weights would make no number.
        self.register_buffer("hidden", torch.full((_MAX_TOKENS, _MAX_TOKENS), -1e4).triu(1))
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        x = self.tokens(ids) + self.positions[:length]
        for each in self.blocks:
            x = each(x, self.hidden[:length, :length])  # type: ignore[index]
        # gather, not indexing: it exports to ONNX with a free batch size.
        end = ids.argmax(1)[:, None, None].expand(-1, 1, _WIDTH)
        return functional.normalize(self.projection(self.norm(x.gather(1, end)[:, 0])), dim=1)


class _Training(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.image, self.text = ImageTower(), TextTower(vocabulary)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def loss(self, pixels: Tensor, ids: Tensor, fits: Tensor) -> Tensor:
        """``fits`` (N, N): whether text j is true of image i; the diagonal is what belongs together."""
        cosines = self.image(pixels).float() @ self.text(ids).float().T
        others = fits & ~torch.eye(len(fits), dtype=torch.bool, device=fits.device)
        logits = (cosines * self.scale()).masked_fill(others, -torch.inf)
        own = torch.arange(len(logits), device=logits.device)
        return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2

    def scale(self) -> Tensor:
        return self.log_scale.exp().clamp(max=100)


def load_tokenizer() -> Tokenizer:
    """The storybook model's, cutting texts at 40 tokens and filling up with its end-of-text token."""
    tokenizer = Tokenizer.from_file(str(_TOKENIZER))
    end = "<|endoftext|>"
    tokenizer.enable_truncation(_MAX_TOKENS)
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id(end), pad_token=end)
    return tokenizer


class Batches:
    """Images and a text for each, with what is true of either as bits (N, facts)."""

    def __init__(self, truths: Sequence[Truth]) -> None:
        self._truths = truths
        self._alike: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for row, truth in enumerate(truths):
            for label in set(truth.objects):
                self._alike[truth.place, truth.style, label].append(row)

    def rows(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Scenes in groups of four that share place, style and one object."""
        rows: list[int] = []
        for anchor in rng.integers(len(self._truths), size=_BATCH // _ALIKE):
            truth = self._truths[anchor]
            label = truth.objects[rng.integers(len(truth.objects))]
            company = self._alike[truth.place, truth.style, label]
            rows += [int(anchor), *(company[i] for i in rng.integers(len(company), size=_ALIKE - 1))]
        return np.array(rows)

    def texts(self, rows: NDArray[np.int64], rng: np.random.Generator) -> tuple[list[str], NDArray[np.bool_]]:
        """A text for each scene, and the facts that it states."""
        words = random.Random(int(rng.integers(2**32)))
        told = [self._text(self._truths[row], words) for row in rows]
        return [text for text, _ in told], np.stack([_bits(facts) for _, facts in told])

    def true(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Everything that is true of each scene."""
        truths = [self._truths[row] for row in rows]
        return np.stack([_bits({*t.objects, t.place, t.style}) for t in truths])

    def _text(self, truth: Truth, rng: random.Random) -> tuple[str, set[str]]:
        """One of its captions, or a few words about one of its objects, called by a public name."""
        if rng.random() < _SHORT:
            label = rng.choice(truth.objects)
            return rng.choice(_OPENERS).format(with_article(rng.choice(THINGS[label].named))), {label}
        named = truth.objects[: len(truth.objects) - truth.unnamed]
        return rng.choice(truth.captions), {*named, truth.place, truth.style}


def _bits(facts: set[str]) -> NDArray[np.bool_]:
    return np.array([fact in facts for fact in _FACTS])


def fits(stated: NDArray[np.bool_], true: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether everything that text j states is true of image i, (N, N)."""
    missing = (~true).astype(np.float32) @ stated.astype(np.float32).T
    fitting: NDArray[np.bool_] = np.equal(missing, 0)
    return fitting


def train_clip(out: Path, work: Path, share: float = 1.0) -> None:
    """Train both networks and write them to the folder ``out``, as ``safelight.clip`` reads it.

    ``work`` keeps renders and checkpoints, from which an interrupted training goes on; ``share`` scales the
    budget.
    """
    scenes, images = max(256, round(share * _SCENES)), max(256, round(share * _IMAGES))
    render(work / "renders", _STORYBOOK, scenes)
    launch(_train, scenes, images, out, work)


def _train(scenes: int, images: int, out: Path, work: Path) -> None:
    torch.manual_seed(_SEED)
    renders, tokenizer = Renders(work / "renders", _STORYBOOK, scenes), load_tokenizer()
    batches, training = Batches(renders.truths), _Training(tokenizer.get_vocab_size()).to(device())

    def loss(rng: np.random.Generator) -> Tensor:
        rows = batches.rows(rng)
        pixels = 2 * augment((to_tensor(renders.images(rows)) + 1) / 2, rng) - 1
        texts, stated = batches.texts(rows, rng)
        ids = torch.tensor([encoding.ids for encoding in tokenizer.encode_batch(texts)])
        match = torch.from_numpy(fits(stated, batches.true(rows)))
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return training.loss(pixels, ids.to(device()), match.to(device()))

    plan = from_scratch(steps(images, _BATCH), 2e-3, ema_decay=0.99, max_grad_norm=5.0, checkpoint_every=100)
    averaged = fit(training, loss, plan, work, "clip", _SEED)
    if rank() == 0:
        export(averaged, tokenizer, out)


def export(training: nn.Module, tokenizer: Tokenizer, out: Path) -> None:
    """Write both networks, the tokenizer, and how to prepare an image for them."""
    assert isinstance(training, _Training)
    out.mkdir(parents=True, exist_ok=True)
    write_onnx(training.image, torch.zeros(2, 3, 64, 64), out / "image.onnx", "pixels", ["embedding"])
    ids = torch.tensor([encoding.ids for encoding in tokenizer.encode_batch(["a dog", "a red apple"])])
    write_onnx(training.text, ids, out / "text.onnx", "ids", ["embedding"], free=("length",))
    tokenizer.save(str(out / "tokenizer.json"))
    about = {
        "size": 64,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "scale": round(training.scale().item(), 4),
    }
    (out / "clip.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")
    write_hashes(out, "clip.json", "tokenizer.json")
