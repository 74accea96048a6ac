"""Pinned sources of models, hub or folder, so that the model that runs is the one that was audited."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.errors import MissingExtraError, ModelError
from safelight.models.files import HASHES, check_hashes, read_json

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PARTS = (".json", ".onnx", ".safetensors")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A folder, or a hub id with its commit, the only case that uses the network.

    ``version`` is the name of the model with a hash or commit, for records; ``arguments`` are those of
    ``from_pretrained``.
    """

    name: str
    version: str
    arguments: Mapping[str, Any]

    @property
    def folder(self) -> Path | None:
        return Path(self.name) if "local_files_only" in self.arguments else None


def find_source(model: str | Path, revision: str | None) -> ModelSource:
    """Return the source of a model.

    Raises ``ModelError`` if the model does not exist, was altered, or is a hub id without a pinned commit.
    """
    folder = Path(model)
    if folder.is_dir():
        if revision:
            raise ModelError(f"{folder} is a folder, which has no revision; remove the option.")
        if (folder / HASHES).is_file():
            check_hashes(folder, read_json(folder / HASHES))
        return ModelSource(str(folder), f"{folder.name} {_fingerprint(folder)}", {"local_files_only": True})
    if not HUB_ID.fullmatch(str(model)):
        raise ModelError(f"there is no model at {model}; give a folder that exists, or a hub id.")
    if not _COMMIT.fullmatch(revision or ""):
        raise ModelError(
            f"the model {model} is not pinned; set the option revision to the commit that you audited, all "
            f"40 hexadecimal digits of it (a branch or a tag can change)."
        )
    return ModelSource(str(model), f"{model} {(revision or '')[:12]}", {"revision": revision})


def _fingerprint(folder: Path) -> str:
    """Return a short hash of the weights and configuration files in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in _PARTS:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


# The modules that ``transformers_library`` needs, and the extra that installs each.
TRANSFORMERS: Mapping[str, str] = {"torch": "generate", "transformers": "generate"}


def transformers_library(what: str) -> Any:
    """Import transformers with PyTorch. Raises ``MissingExtraError``, which names ``what``, without them."""
    try:
        import torch  # noqa: F401 - transformers imports without it, and fails later
        import transformers
    except ImportError as error:
        raise MissingExtraError(what, "generate") from error
    return transformers
