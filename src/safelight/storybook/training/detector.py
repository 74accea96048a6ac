"""Training of the two detectors, which share no architecture, weights, seeds or renders."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from safelight.storybook.training.autoencoder import to_tensor
from safelight.storybook.training.intermediate_predictions import intermediate_predictions
from safelight.storybook.training.renders import Renders, Truth, render
from safelight.storybook.vocabulary import LABELS, PLACES, STYLES
from safelight.training.fit import fit, from_scratch, scaled, steps
from safelight.training.processes import device, launch, rank

GRID = 16
_BATCH = 32
_PLACES, _STYLES = list(PLACES), list(STYLES)


def block(inputs: int, outputs: int, stride: int = 1, groups: int = 1, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two convolutions with a residual connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(block(width, width), block(width, width))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class _Separable(nn.Module):
    """A wide depthwise convolution between two pointwise ones, with a residual connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = 3 * width
        self.body = nn.Sequential(
            block(width, wide, kernel=1),
            block(wide, wide, groups=wide),
            block(wide, width, kernel=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


@dataclass(frozen=True)
class Architecture:
    """A detector's network and training budget.

    ``widths`` and ``depths`` are the channels and repeated blocks at 32, 16 and 8 cells per side.
    ``storybook`` is the seed of the renders, ``scenes`` their number, and ``images`` the number of training
    samples. Of the first ``intermediate`` scenes there are intermediate predictions as well, of which each
    batch has ``intermediate_per_batch``.
    """

    block: Callable[[int], nn.Module]
    widths: tuple[int, int, int]
    depths: tuple[int, int, int]
    seed: int
    storybook: int
    scenes: int
    images: int
    intermediate: int = 0
    intermediate_per_batch: int = 0


ARCHITECTURES = {
    "judge": Architecture(
        Residual, (32, 80, 128), (1, 3, 3), 101, storybook=11, scenes=200_000, images=450_000
    ),
    "filter": Architecture(
        _Separable,
        (32, 80, 128),
        (1, 4, 6),
        202,
        storybook=1,
        scenes=200_000,
        images=400_000,
        intermediate=60_000,
        intermediate_per_batch=11,
    ),
}


class DetectorNetwork(nn.Module):
    """Maps images (N, 3, 64, 64) in [0, 1] to cell logits, boxes and logits of place and style.

    The probability of a label is that of its best cell on a 16 by 16 grid, so every detected object has a
    position.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        (fine, middle, coarse), (a, b, c) = architecture.widths, architecture.depths
        repeated = architecture.block
        self.stem = nn.Sequential(block(3, fine, 2, kernel=5), *(repeated(fine) for _ in range(a)))
        self.middle = nn.Sequential(block(fine, middle, 2), *(repeated(middle) for _ in range(b)))
        self.coarse = nn.Sequential(block(middle, coarse, 2), *(repeated(coarse) for _ in range(c)))
        self.merge = block(coarse + middle, middle, kernel=1)
        self.refine = repeated(middle)
        self.cells = nn.Conv2d(middle, len(LABELS), 1)
        self.edges = nn.Conv2d(middle, 4, 1)
        self.scene = nn.Linear(coarse + middle, len(PLACES) + len(STYLES))
        nn.init.constant_(self.cells.bias, -5.0)  # type: ignore[arg-type]

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return cell logits, distances to box edges, place logits and style logits.

        Cell logits are (N, labels, 16, 16); distances are (N, 4, 16, 16), as shares of the image.
        """
        middle = self.middle(self.stem(2 * pixels - 1))
        coarse = self.coarse(middle)
        merged = self.refine(
            self.merge(torch.cat([functional.interpolate(coarse, scale_factor=2.0), middle], 1))
        )
        pooled = torch.cat([coarse.mean((2, 3)), middle.mean((2, 3))], 1)
        places, styles = self.scene(pooled).split([len(PLACES), len(STYLES)], 1)
        return self.cells(merged), functional.softplus(self.edges(merged)), places, styles


class ExportedDetector(nn.Module):
    """The exported network: probabilities and, for each label, the box of its best cell."""

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
    """Return the training targets; cells near a box's centre are positive, its other cells are ignored."""
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
    """Return the cells whose centre is in the central ``share`` of ``box``, at least one."""
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
    cells, edges, places, styles = (output.float() for output in outputs)
    # Focal weighting (Lin et al. 2017, eq. 5, gamma = 2): nearly all cells are easy and empty.
    entropy = functional.binary_cross_entropy_with_logits(cells, t.cells, reduction="none")
    focus = (cells.sigmoid() - t.cells).abs().pow(2).masked_fill(t.ignored, 0)
    dense = (entropy * focus).sum() / t.cells.sum().clamp(min=1)
    presence = functional.binary_cross_entropy_with_logits(cells.flatten(2).amax(2), t.present)
    boxes = ((edges - t.edges).abs().sum(1) * t.owned).sum() / t.owned.sum().clamp(min=1)
    return (
        dense
        + 20 * presence
        + 2 * boxes
        + 0.3 * (functional.cross_entropy(places, t.places) + functional.cross_entropy(styles, t.styles))
    )


def augment(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Augment images with blur, noise and shifts of brightness."""
    choice = rng.random()
    if choice < 0.35:
        small = float(rng.uniform(0.55, 0.95))
        soft = functional.interpolate(pixels, scale_factor=small, mode="bilinear", antialias=True)
        pixels = functional.interpolate(soft, size=pixels.shape[-2:], mode="bilinear")
    if rng.random() < 0.5:
        pixels = pixels + float(rng.uniform(0, 0.06)) * torch.randn_like(pixels)
    gain = torch.from_numpy(rng.uniform(0.9, 1.1, (len(pixels), 3, 1, 1)).astype(np.float32))
    return (pixels * gain + float(rng.uniform(-0.04, 0.04))).clamp(0, 1)


class _Scenes:
    """Training data of a detector: renders, and intermediate predictions if its budget has any."""

    def __init__(self, budget: Architecture, folder: Path) -> None:
        self._finished = Renders(folder, budget.storybook, budget.scenes)
        self._intermediate = (
            intermediate_predictions(folder, budget.storybook, budget.intermediate)
            if budget.intermediate
            else None
        )
        self._last = slice(_BATCH - budget.intermediate_per_batch, _BATCH)

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], list[Truth]]:
        """Return a batch (N, 64, 64, 3), intermediate predictions last, and the truth of each image."""
        rows = rng.integers(len(self._finished), size=_BATCH)
        images = self._finished.images(rows)
        if self._intermediate:
            rows[self._last] %= len(self._intermediate)
            images[self._last] = self._intermediate.images(rows[self._last])
        return images, [self._finished.truths[row] for row in rows]


def train_detector(name: str, out: Path, work: Path, share: float = 1.0) -> None:
    """Train the detector ``name`` ("judge" or "filter") and write ``out`` (ONNX, fp16 weights).

    ``work`` keeps renders and checkpoints, from which an interrupted training resumes; ``share`` scales the
    budget.
    """
    whole = ARCHITECTURES[name]
    scenes, images = scaled(whole.scenes, share), scaled(whole.images, share)
    budget = replace(whole, scenes=scenes, images=images, intermediate=min(whole.intermediate, scenes))
    render(work / "renders", budget.storybook, scenes)
    if budget.intermediate:
        intermediate_predictions(work / "renders", budget.storybook, budget.intermediate)
    launch(_train, name, budget, out, work)


def _train(name: str, architecture: Architecture, out: Path, work: Path) -> None:
    torch.manual_seed(architecture.seed)
    scenes = _Scenes(architecture, work / "renders")
    network = DetectorNetwork(architecture).to(device())

    def loss(rng: np.random.Generator) -> Tensor:
        images, truths = scenes.draw(rng)
        pixels = augment((to_tensor(images) + 1) / 2, rng)
        outputs = network(pixels.contiguous(memory_format=torch.channels_last))
        return _loss(outputs, _targets(truths))

    averaged = fit(
        network,
        loss,
        from_scratch(steps(architecture.images, _BATCH), 3e-3, ema_decay=0.998, max_grad_norm=5.0),
        work,
        name,
        architecture.seed,
    )
    if rank() == 0:
        export(averaged, out)


def export(network: nn.Module, out: Path) -> None:
    """Write ``network`` as ONNX with a variable batch size."""
    assert isinstance(network, DetectorNetwork)
    names = ["objects", "boxes", "places", "styles"]
    write_onnx(ExportedDetector(network), torch.zeros(2, 3, 64, 64), out, "pixels", names)


def write_onnx(
    network: nn.Module, example: Tensor, out: Path, takes: str, gives: list[str], free: tuple[str, ...] = ()
) -> None:
    """Write ``network``, traced with ``example``, as ONNX with fp16 weights.

    The batch size is variable, and so are the further input dimensions that ``free`` names.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # The legacy exporter takes seconds instead of minutes here, and warns that it is deprecated.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (example,),
            str(out),
            input_names=[takes],
            output_names=gives,
            dynamic_axes={takes: dict(enumerate(("batch", *free))), **{name: {0: "batch"} for name in gives}},
            dynamo=False,
        )
    halve_weights(out)


def halve_weights(path: Path) -> None:
    """Store the weights of an ONNX file in fp16; they are cast to fp32 once when it is loaded."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        name = tensor.name
        half = onnx.numpy_helper.from_array(
            onnx.numpy_helper.to_array(tensor).astype(np.float16), f"{name}.half"
        )
        tensor.CopyFrom(half)
        cast = onnx.helper.make_node("Cast", [half.name], [name], to=onnx.TensorProto.FLOAT)
        model.graph.node.insert(0, cast)
    onnx.save(model, path)
