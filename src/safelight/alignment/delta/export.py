"""Export of deltas in formats that other programs load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.alignment.delta.delta import Delta, parameters_of
from safelight.errors import ModelError, RequestError
from safelight.models.files import copy_permissions
from safelight.storage.tensor_file import write_tensors

if TYPE_CHECKING:
    from torch import Tensor

LORA_FILE = "pytorch_lora_weights.safetensors"  # as diffusers calls it
_METADATA = {"format": "pt"}


def save_folder(pipe: Any, out: Path) -> None:
    """Write the whole pipeline in its current state. Raises ``ModelError`` if it cannot be written."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{out} exists already; give a new folder.")
    try:
        pipe.save_pretrained(out, safe_serialization=True)
        copy_permissions(out)
    except OSError as error:
        raise ModelError(f"{out} cannot be written: {error}.") from error


def save_parameters(pipe: Any, names: list[str], out: Path) -> None:
    """Write the current values of the named parameters, without the component in their names.

    Other erasure tools use this format. Raises ``RequestError`` if they belong to several components, and the
    errors of ``write_tensors``.
    """
    parts = {name.partition(".")[0] for name in names}
    if len(parts) > 1:
        raise RequestError(f"the deltas change {', '.join(sorted(parts))}; export the whole folder.")
    tensors = parameters_of(pipe, names)
    write_tensors(
        {name.partition(".")[2]: each.detach().cpu() for name, each in tensors.items()}, out, _METADATA
    )


def save_lora(delta: Delta, out: Path, rank: int, scale: float = 1.0) -> float:
    """Write the delta as a LoRA of this rank, and return the share of the change that it leaves out.

    The share is by norm. It includes what exceeds the rank in each layer (Eckart & Young 1936), and the
    changes of biases and norms, which a LoRA cannot represent. Raises ``RequestError`` for a rank below 1 or
    if the delta has no layer that a LoRA can represent.
    """
    if rank < 1:
        raise RequestError(f"the rank is {rank}; it must be at least 1.")
    layers: dict[str, Tensor] = {}
    lost = whole = 0.0
    for name, difference in delta.tensors.items():
        change = scale * difference.float()
        whole += float(change.square().sum())
        if change.ndim not in (2, 4) or not name.endswith(".weight"):
            lost += float(change.square().sum())
            continue
        down, up, rest = _low_rank(change, rank)
        lost += rest
        layer = name.removesuffix(".weight")
        layers |= {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}
    if not layers:
        raise RequestError("the delta changes no layer that a LoRA can represent; export the whole folder.")
    write_tensors(layers, out / LORA_FILE, _METADATA)
    return float((lost / whole) ** 0.5)


def _low_rank(change: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """Return A, B and the squared norm of the residual of B A, for a linear layer or a convolution."""
    import torch

    u, s, v = torch.linalg.svd(change.flatten(1), full_matrices=False)
    root = s[:rank].sqrt()
    down, up = root[:, None] * v[:rank], u[:, :rank] * root
    rest = float(s[rank:].square().sum())
    if change.ndim == 4:
        return down.unflatten(1, change.shape[1:]), up[:, :, None, None], rest
    return down, up, rest
