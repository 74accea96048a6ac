"""Data-parallel training processes and their device.

For networks as small as the embedded ones, one single-threaded process for each CPU core is fastest; on a GPU
there is one process. ``accelerate launch`` starts the processes for large models itself. In both cases they
are the processes of ``torch.distributed``, if that is initialized.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn
from torch.nn import functional

from safelight.concurrency.thread_count import thread_count
from safelight.concurrency.workers import end_with_parent


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@cache
def bfloat16_pays() -> bool:
    """Return whether convolutions are faster in bfloat16, which some CPUs support and others emulate."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    pixels, kernel = torch.ones(16, 64, 16, 16), torch.ones(64, 64, 3, 3)
    return _seconds(pixels.bfloat16(), kernel.bfloat16()) < 0.8 * _seconds(pixels, kernel)


def _seconds(pixels: Tensor, kernel: Tensor) -> float:
    """Return the shortest of five times, as other programs on the machine can only add to them."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        functional.conv2d(pixels, kernel)
        times.append(time.perf_counter() - start)
    return min(times)


def processes() -> int:
    """Return the fastest number of training processes: OMP_NUM_THREADS, or one per core; 1 with CUDA."""
    return 1 if torch.cuda.is_available() else thread_count()


def launch(work: Callable[..., None], *arguments: object) -> None:
    """Run ``work(*arguments)`` in all processes, which average their gradients."""
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
    """Return the rank of this process; rank 0 reports progress and writes files."""
    return dist.get_rank() if _together() else 0


def workers() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if _together() else 1


def average(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over all processes, in place; all tensors have the same dtype."""
    if workers() == 1:
        return
    flat = torch.cat([each.flatten() for each in tensors])
    dist.all_reduce(flat)
    flat /= workers()
    for each, part in zip(tensors, flat.split([each.numel() for each in tensors]), strict=True):
        each.copy_(part.view_as(each))


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()
