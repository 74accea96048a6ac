"""Safetensors files that are written as a whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safelight.errors import ModelError
from safelight.storage.atomic_write import atomic_write

if TYPE_CHECKING:
    from torch import Tensor


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write the whole file or nothing. Raises ``ModelError`` if it cannot be written."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with atomic_write(path) as part:
            part.touch()
            mode = part.stat().st_mode
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, dict(metadata))
            part.chmod(mode)  # that of any new file: safetensors writes files that only their owner may read
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be written: {error}; nothing was.") from error
