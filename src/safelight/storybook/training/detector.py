"""Training of the two detectors: one loop, two architectures that share no weights, seeds or renders."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.storybook.training.progress import Curve, Progress
from safelight.storybook.training.renders import Renders, Truth
from safelight.storybook.vocabulary import LABELS, PLACES, STYLES

GRID = 16
_PLACES, _STYLES = list(PLACES), list(STYLES)


def _block(inputs: int, outputs: int, stride: int = 1, groups: int = 1, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    """Two full convolutions around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_block(width, width), _block(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class _Separable(nn.Module):
    """A wide 5x5 depthwise convolution between two pointwise ones, around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = 3 * width
        self.body = nn.Sequential(
            _block(width, wide, kernel=1), _block(wide, wide, groups=wide, kernel=5), _block(wide, width, kernel=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


@dataclass(frozen=True)
class Architecture:
    """Widths at 32, 16 and 8 cells a side, and the block repeated there."""

    block: Callable[[int], nn.Module]
    widths: tuple[int, int, int]
    depths: tuple[int, int, int]
    seed: int


ARCHITECTURES = {
    "judge": Architecture(_Residual, (32, 80, 128), (1, 3, 3), seed=101),
    "filter": Architecture(_Separable, (32, 64, 112), (1, 3, 4), seed=202),
}


class DetectorNetwork(nn.Module):
    """Pictures (N, 3, 64, 64) in [0, 1] to cell logits, boxes and logits of place and style.

    The probability of a label is that of its best cell on a 16 by 16 grid, so that whatever is claimed
    to be in a picture is claimed to be somewhere in it.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        (fine, middle, coarse), (a, b, c) = architecture.widths, architecture.depths
        block = architecture.block
        self.stem = nn.Sequential(_block(3, fine, 2, kernel=5), *(block(fine) for _ in range(a)))
        self.middle = nn.Sequential(_block(fine, middle, 2), *(block(middle) for _ in range(b)))
        self.coarse = nn.Sequential(_block(middle, coarse, 2), *(block(coarse) for _ in range(c)))
        self.merge = _block(coarse + middle, middle, kernel=1)
        self.refine = block(middle)
        self.cells = nn.Conv2d(middle, len(LABELS), 1)
        self.edges = nn.Conv2d(middle, 4, 1)
        self.scene = nn.Linear(coarse + middle, len(PLACES) + len(STYLES))
        nn.init.constant_(self.cells.bias, -5.0)  # type: ignore[arg-type]

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Cell logits (N, labels, 16, 16), distances to the box edges (N, 4, 16, 16) as shares of the
        picture, place logits, style logits."""
        middle = self.middle(self.stem(2 * pixels - 1))
        coarse = self.coarse(middle)
        merged = self.refine(self.merge(torch.cat([F.interpolate(coarse, scale_factor=2.0), middle], 1)))
        pooled = torch.cat([coarse.mean((2, 3)), middle.mean((2, 3))], 1)
        places, styles = self.scene(pooled).split([len(PLACES), len(STYLES)], 1)
        return self.cells(merged), F.softplus(self.edges(merged)), places, styles


class ExportedDetector(nn.Module):
    """The network as shipped: probabilities and, for each label, the box of its best cell."""

    def __init__(self, network: DetectorNetwork) -> None:
        super().__init__()
        self.network = network
        centres = (torch.arange(GRID) + 0.5) / GRID
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        self.register_buffer("centres", torch.stack([x, y, x, y]).flatten(1))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        cells, edges, places, styles = self.network(pixels)
        best, cell = cells.flatten(2).max(2)
        signs = torch.tensor([-1.0, -1.0, 1.0, 1.0])[:, None]
        corners = (self.centres + signs * edges.flatten(2)).clamp(0, 1)
        boxes = torch.gather(corners.transpose(1, 2), 1, cell[..., None].expand(-1, -1, 4))
        return best.sigmoid(), boxes, places.softmax(1), styles.softmax(1)


@dataclass(frozen=True)
class _Targets:
    cells: Tensor
    ignored: Tensor
    edges: Tensor
    owned: Tensor
    present: Tensor
    places: Tensor
    styles: Tensor


def _targets(truths: list[Truth]) -> _Targets:
    """A cell near the middle of a box belongs to its object; the box's other cells are nobody's."""
    n = len(truths)
    cells = np.zeros((n, len(LABELS), GRID, GRID), np.float32)
    ignored = np.zeros_like(cells, dtype=bool)
    edges = np.zeros((n, 4, GRID, GRID), np.float32)
    centres = (np.arange(GRID) + 0.5) / GRID
    for row, truth in enumerate(truths):
        for label, box in zip(truth.objects, truth.boxes, strict=True):
            k = LABELS.index(label)
            inside, core = _span(box, centres, 1.0), _span(box, centres, 0.4)
            ignored[row, k] |= inside
            cells[row, k][core] = 1
            edges[row][:, core] = _edges(box, centres)[:, core]
    owned = cells.any(1)
    return _Targets(
        torch.from_numpy(cells),
        torch.from_numpy(ignored & (cells == 0)),
        torch.from_numpy(edges),
        torch.from_numpy(owned),
        torch.from_numpy(cells.any((2, 3)).astype(np.float32)),
        torch.tensor([_PLACES.index(t.place) for t in truths]),
        torch.tensor([_STYLES.index(t.style) for t in truths]),
    )


def _span(box: tuple[float, ...], centres: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Cells whose centre lies in the middle ``share`` of ``box``; always at least the central one."""
    left, top, right, bottom = box
    x, y = (left + right) / 2, (top + bottom) / 2
    reach_x, reach_y = (max(share * (b - a) / 2, 0.51 / GRID) for a, b in ((left, right), (top, bottom)))
    columns, rows = np.abs(centres - x) <= reach_x, np.abs(centres - y) <= reach_y
    return rows[:, None] & columns[None, :]


def _edges(box: tuple[float, ...], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    left, top, right, bottom = box
    x, y = np.broadcast_to(centres, (GRID, GRID)), np.broadcast_to(centres[:, None], (GRID, GRID))
    return np.maximum(np.stack([x - left, y - top, right - x, bottom - y]), 0)


def _loss(outputs: tuple[Tensor, Tensor, Tensor, Tensor], t: _Targets) -> Tensor:
    cells, edges, places, styles = outputs
    # Focal weighting (Lin et al. 2017, eq. 5, gamma = 2): nearly all cells are easy and empty.
    entropy = F.binary_cross_entropy_with_logits(cells, t.cells, reduction="none")
    focus = (cells.sigmoid() - t.cells).abs().pow(2).masked_fill(t.ignored, 0)
    dense = (entropy * focus).sum() / t.cells.sum().clamp(min=1)
    presence = F.binary_cross_entropy_with_logits(cells.flatten(2).amax(2), t.present)
    boxes = ((edges - t.edges).abs().sum(1) * t.owned).sum() / t.owned.sum().clamp(min=1)
    return dense + 20 * presence + 2 * boxes + 0.3 * (F.cross_entropy(places, t.places) + F.cross_entropy(styles, t.styles))


def augment(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """What pictures suffer between a model and a judge: softness, noise, shifts of tone, re-coding."""
    choice = rng.random()
    if choice < 0.35:
        small = float(rng.uniform(0.55, 0.95))
        soft = F.interpolate(pixels, scale_factor=small, mode="bilinear", antialias=True)
        pixels = F.interpolate(soft, size=pixels.shape[-2:], mode="bilinear")
    if rng.random() < 0.5:
        pixels = pixels + float(rng.uniform(0, 0.06)) * torch.randn_like(pixels)
    gain = torch.from_numpy(rng.uniform(0.9, 1.1, (len(pixels), 3, 1, 1)).astype(np.float32))
    return (pixels * gain + float(rng.uniform(-0.04, 0.04))).clamp(0, 1)


def train_detector(name: str, renders: Renders, steps: int, out: Path, batch: int = 32) -> None:
    """Train the detector ``name`` and write ``out`` (ONNX) with its curve beside it."""
    architecture = ARCHITECTURES[name]
    torch.manual_seed(architecture.seed)
    rng = np.random.default_rng(architecture.seed)
    network = DetectorNetwork(architecture).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998), use_buffers=True
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.05)
    curve, progress = Curve(), Progress(f"train {name}", steps)
    for step, indices in zip(range(steps), renders.batches(batch, rng), strict=False):
        pixels = torch.from_numpy(renders.pictures(indices)).permute(0, 3, 1, 2).float() / 255
        pixels = augment(pixels, rng).contiguous(memory_format=torch.channels_last)
        loss = _loss(network(pixels), _targets([renders.truths[i] for i in indices]))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        averaged.update_parameters(network)
        curve.add(step, loss.item())
        progress.tell(step + 1, f"loss {curve.recent():.3f}")
    export(averaged.module, out)
    curve.save(out.with_suffix(".curve.json"))


def export(network: nn.Module, out: Path) -> None:
    """Write ``network`` as ONNX with a free batch size."""
    assert isinstance(network, DetectorNetwork)
    out.parent.mkdir(parents=True, exist_ok=True)
    shipped = ExportedDetector(network).eval()
    names = ["objects", "boxes", "places", "styles"]
    torch.onnx.export(
        shipped,
        (torch.zeros(2, 3, 64, 64),),
        str(out),
        input_names=["pixels"],
        output_names=names,
        dynamic_axes={name: {0: "batch"} for name in ["pixels", *names]},
        dynamo=False,
    )


def steps_for(images: int, batch: int = 32) -> int:
    return math.ceil(images / batch)
