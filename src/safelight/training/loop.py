"""The one training loop: workers, schedule, averaged weights, checkpoints that resume, progress, curve.

A training gives a model and a loss of a random batch. On CPUs one single-threaded process a core works
best for networks this small; with CUDA one process does it all.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from safelight.concurrency.thread_count import cores
from safelight.concurrency.workers import end_with_parent
from safelight.storage.atomic_write import atomic_write
from safelight.training.average import decay_at
from safelight.training.progress import Curve, Progress

# Samples that a training sees, however small its share of a budget.
LEAST = 256

Loss = Callable[[np.random.Generator], Tensor]


@dataclass(frozen=True)
class Fit:
    """How long and how fast to fit. ``average`` is the decay of the averaged weights, less at first;
    ``called`` is what lines of progress call it, if not by its ``name``."""

    name: str
    steps: int
    rate: float
    seed: int
    average: float = 0.999
    warm_up: int = 100
    decay: float = 0.01
    clip: float = 1.0
    checkpoint_every: int = 500
    called: str = ""


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@cache
def bfloat16_pays() -> bool:
    """Whether convolutions are faster in bfloat16 here: some CPUs can compute in it, others emulate."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    pixels, kernel = torch.ones(16, 64, 16, 16), torch.ones(64, 64, 3, 3)
    return _seconds(pixels.bfloat16(), kernel.bfloat16()) < 0.8 * _seconds(pixels, kernel)


def _seconds(pixels: Tensor, kernel: Tensor) -> float:
    """The best of five: what else runs on the machine only ever adds."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        functional.conv2d(pixels, kernel)
        times.append(time.perf_counter() - start)
    return min(times)


def processes() -> int:
    """As many as work best: one a core, or as many as OMP_NUM_THREADS says; with CUDA one."""
    return 1 if torch.cuda.is_available() else cores()


def launch(work: Callable[..., None], *arguments: object) -> None:
    """Run ``work(*arguments)`` in all processes, joined for gradient averaging."""
    if (count := processes()) == 1:
        work(*arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/meeting"
        spawn(_worker, (count, meeting, work, arguments), nprocs=count)


def _worker(
    rank: int, processes: int, meeting: str, work: Callable[..., None], arguments: tuple[object, ...]
) -> None:
    end_with_parent()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=processes)
    try:
        work(*arguments)
    finally:
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def workers() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def scaled(count: int, share: float) -> int:
    """Return ``share`` of ``count`` samples, but never so few that nothing is trained."""
    return max(LEAST, round(share * count))


def steps(samples: int, batch: int) -> int:
    """How many it takes all workers to see so many samples, ``batch`` each a step; at least one."""
    return max(1, samples // (batch * workers()))


def fit(model: nn.Module, loss_of: Loss, plan: Fit, folder: Path) -> nn.Module:
    """Fit ``model`` in place, resuming from ``folder`` if it holds a checkpoint; returns the averaged copy.

    Each step draws from a generator seeded by (seed, worker, step), so that an interrupted training goes
    on as if it had not been.
    """
    averaged = AveragedModel(model, multi_avg_fn=_averaging(plan.average), use_buffers=True)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=plan.rate, betas=(0.9, 0.99), weight_decay=plan.decay, fused=True
    )
    checkpoint = _Checkpoint(folder / f"{plan.name}.safetensors", model, averaged, optimiser)
    first, curve = checkpoint.load(), Curve.load(folder / f"{plan.name}.curve.json")
    progress = Progress(plan.called or plan.name, plan.steps, first=first)
    for step in range(first, plan.steps):
        value = _step(model, loss_of, optimiser, plan, step)
        averaged.update_parameters(model)
        if rank() == 0:
            curve.add(step, value)
            progress.tell(step + 1, f"loss {curve.recent():.4f}")
            if (step + 1) % plan.checkpoint_every == 0 or step + 1 == plan.steps:
                checkpoint.save(step + 1)
                curve.save(folder / f"{plan.name}.curve.json")
    module: nn.Module = averaged.module
    return module.eval()


def _averaging(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        get_ema_multi_avg_fn(decay_at(int(count), decay))(averaged, current, count)

    return update


def _step(model: nn.Module, loss_of: Loss, optimiser: torch.optim.Optimizer, plan: Fit, step: int) -> float:
    for group in optimiser.param_groups:
        group["lr"] = plan.rate * _schedule(step, plan)
    torch.manual_seed((plan.seed * 1_000_003 + step) * 64 + rank())
    with torch.autocast(device().type, torch.bfloat16, enabled=bfloat16_pays()):
        loss = loss_of(np.random.default_rng((plan.seed, rank(), step)))
    optimiser.zero_grad(set_to_none=False)
    loss.backward()
    _average_gradients(model)
    nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
    optimiser.step()
    return loss.item()


def _schedule(step: int, plan: Fit) -> float:
    """Linear warm-up, then half a cosine down to a fiftieth."""
    warm = min(1.0, (step + 1) / plan.warm_up)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / plan.steps)))


def _average_gradients(model: nn.Module) -> None:
    if workers() == 1:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= workers()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


@dataclass(frozen=True)
class _Checkpoint:
    """Model, averaged weights and both moments of AdamW in one safetensors file."""

    path: Path
    model: nn.Module
    averaged: AveragedModel
    optimiser: torch.optim.AdamW

    def save(self, step: int) -> None:
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"averaged.{k}": v for k, v in self.averaged.state_dict().items()}
        for i, parameter in enumerate(self.model.parameters()):
            state = self.optimiser.state[parameter]
            tensors |= {f"optimiser.{i}.{k}": state[k] for k in ("exp_avg", "exp_avg_sq") if k in state}
        tensors["step"] = torch.tensor(step)
        with atomic_write(self.path) as part:
            save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, part)

    def load(self) -> int:
        """Restore and return the number of steps done; 0 without a checkpoint."""
        if not self.path.exists():
            return 0
        tensors = load_file(self.path)
        step = int(tensors.pop("step"))
        self.model.load_state_dict(_under("model.", tensors))
        self.averaged.load_state_dict(_under("averaged.", tensors))
        for i, parameter in enumerate(self.model.parameters()):
            if moments := _under(f"optimiser.{i}.", tensors):
                # AdamW's fused kernel reads moments in the order in which the parameter lies in memory.
                alike = {name: torch.empty_like(parameter).detach().copy_(m) for name, m in moments.items()}
                self.optimiser.state[parameter] = {
                    "step": torch.full((), float(step), device=parameter.device),
                    **alike,
                }
        return step


def load_averaged(model: nn.Module, checkpoint: Path) -> nn.Module:
    """``model`` with the averaged weights of a checkpoint of :func:`fit`, however far that had come."""
    model.load_state_dict(_under("averaged.module.", load_file(checkpoint)))
    return model.eval()


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
