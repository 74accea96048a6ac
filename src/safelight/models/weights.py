"""Hashes of a model's weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def weights_sha256(pipe: Any) -> str:
    """Return the sha256 over the names and current values of every tensor in a pipeline."""
    digest = hashlib.sha256()
    parts: Mapping[str, Any] = getattr(pipe, "components", {})
    for part, module in sorted(parts.items()):
        tensors = module.state_dict() if hasattr(module, "state_dict") else {}
        for name, tensor in sorted(tensors.items()):
            digest.update(f"{part}.{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def half_precision_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 over names and values in half precision.

    It is the same whether a model was loaded in half or in full precision.
    """
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor.to(torch.float16)))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    import torch

    raw: bytes = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return raw
