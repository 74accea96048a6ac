"""The files of a model: weights with pinned hashes in ``hashes.json``, and JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safelight.errors import ModelError
from safelight.storage.packaged_files import read_text

INDEX = "model_index.json"
HASHES = "hashes.json"
_WEIGHTS = (".safetensors", ".onnx")


def write_hashes(folder: Path, *others: str) -> None:
    """Pin every weights file in ``folder``, and ``others``, in its ``hashes.json``."""
    hashes = {name: file_sha256(folder / name) for name in sorted({*_weights(folder), *others})}
    (folder / HASHES).write_text(json.dumps(hashes, indent=2) + "\n", "utf-8")


def check_hashes(folder: Path, pinned: Mapping[str, str]) -> None:
    """Raise ``ModelError`` unless all weights in ``folder`` are pinned and no pinned file has changed."""
    for name in sorted(_weights(folder) | pinned.keys()):
        if name not in pinned:
            raise ModelError(
                f"{folder / name} is not listed in {HASHES}; remove it or install safelight again."
            )
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name} is missing; install safelight again.")
        if file_sha256(folder / name) != pinned[name]:
            raise ModelError(f"{folder / name} was altered (wrong sha256); install safelight again.")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file. Raises ``ModelError`` if it is missing or not a JSON object."""
    try:
        data = json.loads(read_text(path))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; install safelight again.") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not valid JSON: {error}; download the model again.") from error
    if not isinstance(data, dict):
        raise ModelError(f"{path} is not a JSON object; download the model again.")
    return data


def copy_permissions(folder: Path) -> None:
    """Give the weights of a model the permissions of its index file.

    Safetensors writes files that only their owner can read.
    """
    for name in _weights(folder):
        (folder / name).chmod((folder / INDEX).stat().st_mode)


def _weights(folder: Path) -> set[str]:
    files = (path for path in folder.rglob("*") if path.suffix in _WEIGHTS)
    return {path.relative_to(folder).as_posix() for path in files}


def package_folder(package: str) -> Path | None:
    """Return the folder of an installed package, without importing it; None if it is not installed."""
    spec = find_spec(package)
    folders = (spec.submodule_search_locations if spec else None) or ()
    return next((Path(folder) for folder in folders), None)


def file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
