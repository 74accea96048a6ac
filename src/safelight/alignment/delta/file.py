"""Reading delta files, which may come from untrusted sources."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.errors import ModelError
from safelight.storage.unique_keys import unique_keys

if TYPE_CHECKING:
    from torch import Tensor

# The largest models have some thousand parameters, at a hundred bytes each.
_MOST_HEADER_BYTES = 16 << 20
_FLOATS = ("F16", "BF16", "F32", "F64")
_METADATA = "__metadata__"


def read_delta(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata.

    Raises ``ModelError`` for a file that is missing or is not a safetensors file, and for tensors that are
    not floating-point numbers or have values that are not finite.
    """
    if not path.is_file():
        raise ModelError(f"there is no delta at {path}; give an existing file.")
    header = _header(path)
    metadata = header.pop(_METADATA, {})
    for name, about in header.items():
        if about.get("dtype") not in _FLOATS:
            raise ModelError(f'{path}: "{name}" is not of floating-point numbers; give a delta.')
        if "." not in name.strip("."):
            raise ModelError(
                f'{path} is not a delta: "{name}" does not name a parameter of a part; give a delta.'
            )
    tensors = _tensors(path, header)
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ModelError(f'{path}: "{name}" has values that are not finite; get or make the delta again.')
    return tensors, metadata


def _tensors(path: Path, names: Iterable[str]) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, TypeError, RuntimeError) as error:
        raise _not_safetensors(path) from error


def _header(path: Path) -> dict[str, Any]:
    """Return the header of a safetensors file: a JSON object that follows its length."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > os.fstat(file.fileno()).st_size:
                raise _not_safetensors(path)
            if length > _MOST_HEADER_BYTES:
                raise ModelError(
                    f"{path} has a header of {length:,} bytes, too long for a delta; get it again."
                )
            header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=unique_keys)
    except (OSError, ValueError, RecursionError) as error:
        raise _not_safetensors(path) from error
    if not isinstance(header, dict) or not all(isinstance(each, dict) for each in header.values()):
        raise _not_safetensors(path)
    return header


def _not_safetensors(path: Path) -> ModelError:
    return ModelError(f"{path} is not a safetensors file; download or make it again.")
