"""Training of the storybook's CLIP: an image network and a text network with one embedding space.

The loss is InfoNCE with the other items of the batch as negatives (Radford et al. 2021, figure 3). Batches
consist of groups of scenes that share place, style and one object, so that they differ in the other objects
only. As the ground truth is exact, a text that is also true of another image of the batch is not used as a
negative for it.
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
# Share of texts that name one object of the image and nothing else.
_SHORT = 0.3
_OPENERS = ("{}", "{}", "a photo of {}", "a picture of {}", "an image of {}")
_FACTS = (*LABELS, *PLACES, *STYLES)


class ImageTower(nn.Module):
    """Maps images (N, 3, 64, 64) in [-1, 1] to unit-length embeddings (N, 128).

    It pools both the mean and the maximum of activations, so that small objects count.
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
    """A residual block of causal self-attention (Vaswani et al. 2017, eq. 1) and an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(_WIDTH) for _ in range(2))
        self.heads = nn.Linear(_WIDTH, 3 * _WIDTH)
        self.merge = nn.Linear(_WIDTH, _WIDTH)
        self.mlp = nn.Sequential(nn.Linear(_WIDTH, 4 * _WIDTH), nn.GELU(), nn.Linear(4 * _WIDTH, _WIDTH))

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Return ``x`` (N, L, width) transformed; the mask ``hidden`` (L, L) is 0 where tokens may attend."""
        parts = self.heads(self.norms[0](x)).unflatten(2, (3, _HEADS, _WIDTH // _HEADS))
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        weights = query @ key.transpose(2, 3) / math.sqrt(_WIDTH // _HEADS) + hidden
        x = x + self.merge((weights.softmax(3) @ value).transpose(1, 2).flatten(2))
        out: Tensor = x + self.mlp(self.norms[1](x))
        return out


class TextTower(nn.Module):
    """Maps token ids (N, L), with L at most 40, to unit-length embeddings (N, 128).

    The embedding is taken at the first end-of-text token, which has the highest id.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, _WIDTH)
        self.positions = nn.Parameter(0.01 * torch.randn(_MAX_TOKENS, _WIDTH))
        self.blocks = nn.ModuleList(_Attention() for _ in range(_DEPTH))
        self.norm = nn.LayerNorm(_WIDTH)
        self.projection = nn.Linear(_WIDTH, _DIMENSIONS)
        # Not minus infinity, as the average of the weights would then be NaN.
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
        """Return the loss; ``fits`` (N, N) is whether text j is true of image i, its diagonal the pairs."""
        cosines = self.image(pixels).float() @ self.text(ids).float().T
        others = fits & ~torch.eye(len(fits), dtype=torch.bool, device=fits.device)
        logits = (cosines * self.scale()).masked_fill(others, -torch.inf)
        own = torch.arange(len(logits), device=logits.device)
        return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2

    def scale(self) -> Tensor:
        return self.log_scale.exp().clamp(max=100)


def load_tokenizer() -> Tokenizer:
    """Return the storybook model's tokenizer; it truncates at 40 tokens and pads with end-of-text tokens."""
    tokenizer = Tokenizer.from_file(str(_TOKENIZER))
    end = "<|endoftext|>"
    tokenizer.enable_truncation(_MAX_TOKENS)
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id(end), pad_token=end)
    return tokenizer


class Batches:
    """Draws batches of scenes with a text for each, and their facts as bits (N, facts)."""

    def __init__(self, truths: Sequence[Truth]) -> None:
        self._truths = truths
        self._alike: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for row, truth in enumerate(truths):
            for label in set(truth.objects):
                self._alike[truth.place, truth.style, label].append(row)

    def rows(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the rows of scenes in groups of four that share place, style and one object."""
        rows: list[int] = []
        for anchor in rng.integers(len(self._truths), size=_BATCH // _ALIKE):
            truth = self._truths[anchor]
            label = truth.objects[rng.integers(len(truth.objects))]
            similar = self._alike[truth.place, truth.style, label]
            rows += [int(anchor), *(similar[i] for i in rng.integers(len(similar), size=_ALIKE - 1))]
        return np.array(rows)

    def texts(self, rows: NDArray[np.int64], rng: np.random.Generator) -> tuple[list[str], NDArray[np.bool_]]:
        """Return a text for each scene, and the facts that it states."""
        words = random.Random(int(rng.integers(2**32)))
        drawn = [self._text(self._truths[row], words) for row in rows]
        return [text for text, _ in drawn], np.stack([_bits(facts) for _, facts in drawn])

    def true(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return all facts of each scene."""
        truths = [self._truths[row] for row in rows]
        return np.stack([_bits({*t.objects, t.place, t.style}) for t in truths])

    def _text(self, truth: Truth, rng: random.Random) -> tuple[str, set[str]]:
        """Return a caption, or a short text with a seen synonym of one object; and the facts it states."""
        if rng.random() < _SHORT:
            label = rng.choice(truth.objects)
            return rng.choice(_OPENERS).format(with_article(rng.choice(THINGS[label].named))), {label}
        named = truth.objects[: len(truth.objects) - truth.unnamed]
        return rng.choice(truth.captions), {*named, truth.place, truth.style}


def _bits(facts: set[str]) -> NDArray[np.bool_]:
    return np.array([fact in facts for fact in _FACTS])


def fits(stated: NDArray[np.bool_], true: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a matrix (N, N): whether all facts of text j are true of image i."""
    missing = (~true).astype(np.float32) @ stated.astype(np.float32).T
    fitting: NDArray[np.bool_] = np.equal(missing, 0)
    return fitting


def train_clip(out: Path, work: Path, share: float = 1.0) -> None:
    """Train both networks and write them to the folder ``out``, which ``safelight.clip`` reads.

    ``work`` keeps renders and checkpoints, from which an interrupted training resumes; ``share`` scales the
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
    """Write both networks, the tokenizer and the settings of image preprocessing."""
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
