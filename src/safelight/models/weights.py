"""What weights a model has, said in one hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def weights_sha256(pipe: Any) -> str:
    """sha256 over the names and values of every tensor in the pipeline, as they are now."""
    digest = hashlib.sha256()
    parts: Mapping[str, Any] = getattr(pipe, "components", {})
    for part, module in sorted(parts.items()):
        tensors = module.state_dict() if hasattr(module, "state_dict") else {}
        for name, tensor in sorted(tensors.items()):
            digest.update(f"{part}.{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def half_sha256(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names and values in half precision: the same for a model loaded in it and in full."""
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
