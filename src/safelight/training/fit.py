"""Training of a whole network from random weights, on randomly drawn batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from safelight.errors import ModelError
from safelight.training.loop import TrainingLoop, read_checkpoint
from safelight.training.plan import TrainingPlan
from safelight.training.processes import bfloat16_pays, device, rank, workers
from safelight.training.progress import Progress

# The smallest number of samples of a training, however small its share of the full training.
_LEAST = 256

# A function that draws a batch with the given generator and returns its loss.
BatchLoss = Callable[[np.random.Generator], Tensor]


def from_scratch(
    train_steps: int,
    learning_rate: float,
    ema_decay: float = 0.999,
    weight_decay: float = 0.01,
    max_grad_norm: float = 1.0,
    checkpoint_every: int = 500,
    lr_warmup_steps: int = 100,
) -> TrainingPlan:
    """Return a plan for training a network from random weights."""
    return TrainingPlan(
        train_steps=train_steps,
        learning_rate=learning_rate,
        lr_scheduler="cosine",
        lr_warmup_steps=lr_warmup_steps,
        min_lr_rate=0.02,
        checkpoint_every=checkpoint_every,
        ema_decay=ema_decay,
        max_grad_norm=max_grad_norm,
        weight_decay=weight_decay,
        betas=(0.9, 0.99),
    )


def fit(
    model: nn.Module,
    loss_of: BatchLoss,
    plan: TrainingPlan,
    folder: Path,
    name: str,
    seed: int,
    called: str = "",
) -> nn.Module:
    """Train ``model`` in place and return it, in evaluation mode, with the averaged weights.

    ``folder`` has the checkpoint ``<name>.safetensors``, from which an interrupted training resumes, and the
    loss curve, ``<name>.curve.json``. Each batch is drawn with a generator seeded by ``seed``, the process
    and the number of the batch. Progress is reported under the name ``called``, by default ``name``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = model.state_dict().keys()
    loop = TrainingLoop(
        {key: each for key, each in model.named_parameters() if each.requires_grad},
        plan,
        folder / f"{name}.safetensors",
        {"name": name, "seed": seed},
        {key: each for key, each in model.named_buffers() if key in kept},
    )
    curve = folder / f"{name}.curve.json"
    printed = Progress(called or name, plan.train_steps, first=loop.steps_done)

    def loss(batch: int) -> Tensor:
        torch.manual_seed((seed * 1_000_003 + batch) * 64 + rank())
        with torch.autocast(device().type, torch.bfloat16, enabled=bfloat16_pays()):
            return loss_of(np.random.default_rng((seed, rank(), batch)))

    def report(step: int, _: float) -> None:
        if rank() == 0:
            printed.tell(step, f"loss {loop.curve.recent():.4f}")
            if step % plan.checkpoint_every == 0:
                loop.curve.save(curve)

    loop.run(loss, progress=report)
    if rank() == 0:
        loop.curve.save(curve)
    return model.eval()


def load_averaged(model: nn.Module, checkpoint: Path) -> nn.Module:
    """Load the averaged weights of a checkpoint of ``fit`` into ``model``.

    The training need not be complete. Raises ``ModelError`` for a file that is not a checkpoint of such a
    network.
    """
    tensors, _ = read_checkpoint(checkpoint)
    for kind in ("buffers.", "average."):
        weights = {name.removeprefix(kind): each for name, each in tensors.items() if name.startswith(kind)}
        try:
            _, unexpected = model.load_state_dict(weights, strict=False)
        except RuntimeError as error:
            raise ModelError(f"{checkpoint} is of another network.") from error
        if unexpected:
            raise ModelError(f"{checkpoint} is of another network: it has {unexpected[0]}.")
    return model.eval()


def scaled(count: int, share: float) -> int:
    """Return ``share`` of ``count`` samples, but at least a small number of samples."""
    return max(_LEAST, round(share * count))


def steps(samples: int, batch_size: int) -> int:
    """Return the number of steps, at least one, in which all processes together see ``samples`` samples."""
    return max(1, samples // (batch_size * workers()))
