"""Models of the transformers library that look at pictures: where they come from, and how they are loaded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from safelight.errors import FilterError, MissingExtraError, ModelError, no_such
from safelight.model_files import HASHES, check_hashes, read_json
from safelight.models import best_device

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WEIGHTS = (".onnx", ".safetensors")


@dataclass(frozen=True, slots=True)
class Source:
    """A folder, or a hub id with its commit, the only case that uses the network."""

    name: str
    version: str
    arguments: Mapping[str, Any]

    @property
    def folder(self) -> Path | None:
        return Path(self.name) if "local_files_only" in self.arguments else None


def find_source(model: str | Path, revision: str | None) -> Source:
    """Raises ``ModelError`` for what is not there, was altered, or is not pinned."""
    folder = Path(model)
    if folder.is_dir():
        if revision:
            raise ModelError(f"{folder} is a folder, which has no revision; remove the option.")
        if (folder / HASHES).is_file():
            check_hashes(folder, read_json(folder / HASHES))
        return Source(str(folder), f"{folder.name} {_fingerprint(folder)}", {"local_files_only": True})
    if not _HUB_ID.fullmatch(str(model)):
        raise ModelError(f"there is no model at {model}; give a folder that exists, or a hub id.")
    if not _COMMIT.fullmatch(revision or ""):
        raise ModelError(
            f"the model {model} is not pinned; set the option revision to the commit that you audited, all "
            f"40 hexadecimal digits of it (a branch or a tag can change)."
        )
    return Source(str(model), f"{model} {(revision or '')[:12]}", {"revision": revision})


def load(kind: str, source: Source, device: str | None) -> tuple[Any, Any]:
    """The image processor and the model of transformers' class ``AutoModelFor{kind}``, ready to be asked.

    Only safetensors are read and no code that comes with a model is run. Raises ``ModelError`` where a part
    of the weights is missing as well: transformers would go on with random numbers in their place.
    """
    transformers = _transformers()
    safe = {"trust_remote_code": False, **source.arguments}
    try:
        # Pillow's backend gives the same numbers whether torchvision is installed or not.
        processor = transformers.AutoImageProcessor.from_pretrained(source.name, backend="pil", **safe)
        model, loaded = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(
            source.name, use_safetensors=True, output_loading_info=True, **safe
        )
    except _loading_errors() as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"{source.name} cannot be loaded: {reason}") from error
    if lacking := [*loaded["missing_keys"], *loaded["mismatched_keys"]]:
        raise ModelError(
            f"the weights of {source.name} lack {lacking[0]}; give a model that was trained for it."
        )
    return processor, model.to(device or best_device()).eval()


def label_table(id2label: Mapping[Any, str], table: Mapping[str, str] | None) -> list[str | None]:
    """What each output is reported as: by ``table`` (None for what is not in it), else by its own name."""
    names = [id2label[number] for number in sorted(id2label, key=int)]
    for name in table or ():
        if name not in names:
            raise FilterError(no_such("label of the model", name, names))
    return [table.get(name) for name in names] if table else list(names)


def check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise FilterError(f"{name} is {value}; it must be in [0, 1].")


def as_rgb(image: Image.Image) -> Image.Image | FilterError:
    """The picture in RGB, or why it cannot be looked at."""
    try:
        if not image.width or not image.height:
            return FilterError("it has no pixels")
        return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow's, for PNGs
        return FilterError(str(error))


def prepare(processor: Any, images: Sequence[Image.Image], model: Any) -> Any:
    """What ``model`` is given for RGB pictures."""
    inputs = processor(images=list(images), input_data_format="channels_last", return_tensors="pt")
    return inputs.to(model.device, model.dtype)


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in _WEIGHTS:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _transformers() -> Any:
    try:
        import torch  # noqa: F401 - transformers imports without it, and fails later
        import transformers
    except ImportError as error:
        raise MissingExtraError("A model of the transformers library", "generate") from error
    return transformers


def _loading_errors() -> tuple[type[Exception], ...]:
    """Everything that transformers raises for a model that is incomplete, damaged or of another kind."""
    from safetensors import SafetensorError

    return (
        OSError,
        SafetensorError,
        AttributeError,
        ImportError,
        KeyError,
        RuntimeError,
        TypeError,
        ValueError,
    )
