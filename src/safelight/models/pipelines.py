"""Loads text-to-image models: safetensors only, with checked hashes, and offline unless given a hub id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.errors import MissingExtraError, ModelError, first_line, unknown_name
from safelight.models.files import HASHES, INDEX, check_hashes, read_json
from safelight.models.source import HUB_ID
from safelight.storage.packaged_files import check_folder

_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
# The libraries that a model's index may name; anything else would be code shipped with the model.
_LIBRARIES = ("diffusers", "transformers", "stable_diffusion")
# Only SDXL's checkpoints have a second text encoder under this name.
_SDXL_PREFIX = "conditioner.embedders.1."


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A pinned model: a folder of this package or a hub repository, its revision, hashes and licence.

    ``sha256`` maps each file of weights to its hash; if it is None, they are read from ``hashes.json`` in the
    folder of the model.
    """

    name: str
    source: str
    revision: str
    licence: str
    sha256: Mapping[str, str] | None = None

    @property
    def path(self) -> Path:
        return Path(__file__).parents[1] / self.source


MODELS: Mapping[str, ModelRef] = {
    "storybook": ModelRef("storybook", "storybook/model", "1", "Apache-2.0"),
}


def load_pipeline(name_or_path: str | Path, *, device: str | None = None, **arguments: Any) -> Any:
    """Load a stock diffusers pipeline onto ``device``, by default the best one available.

    ``name_or_path`` is a packaged model ("storybook"), a diffusers folder, a single-file safetensors
    checkpoint (with ``config=`` a diffusers folder of the same kind), or a hub id, the only case that uses
    the network. ``arguments`` are passed to diffusers. Raises ``ModelError`` if the model is missing, altered
    or could run code, and ``MissingExtraError`` without the extra "generate".
    """
    _refuse_code(arguments)
    name, path = str(name_or_path), Path(name_or_path)
    if name in MODELS:
        pipe = _from_package(MODELS[name], arguments)
    elif path.is_dir():
        pipe = _from_folder(path, arguments)
    elif path.is_file():
        pipe = _from_checkpoint(path, arguments)
    elif HUB_ID.fullmatch(name):
        pipe = _from_pretrained(name, arguments)
    elif "/" in name or path.suffix:
        raise ModelError(f"there is no model at {path}; give a folder or file that exists.")
    else:
        raise ModelError(unknown_name("model", name, MODELS))
    return pipe.to(device or best_device())


def model_name(pipe: Any) -> str:
    """Return the last part of a pipeline's name or path, for records, without folders of this machine."""
    return Path(getattr(pipe, "name_or_path", None) or type(pipe).__name__).name


def best_device() -> str:
    """Return "cuda" or "mps" if available, else "cpu"."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _from_package(ref: ModelRef, arguments: Mapping[str, Any]) -> Any:
    if not (ref.path / INDEX).is_file():
        raise ModelError(
            f'the model "{ref.name}" is not in this copy of safelight; train it with '
            f"`safelight train {ref.name} --output {ref.name}` and name that folder."
        )
    check_folder(ref.path)
    check_hashes(ref.path, ref.sha256 or read_json(ref.path / HASHES))
    pipe = _from_pretrained(str(ref.path), {"local_files_only": True, **arguments})
    pipe.register_to_config(_name_or_path=ref.name)
    return pipe


def _from_folder(folder: Path, arguments: Mapping[str, Any]) -> Any:
    _check_index(folder)
    if (folder / HASHES).is_file():
        check_hashes(folder, read_json(folder / HASHES))
    return _from_pretrained(str(folder), {"local_files_only": True, **arguments})


def _from_pretrained(source: str, arguments: Mapping[str, Any]) -> Any:
    pipeline = _diffusers().DiffusionPipeline
    try:
        return pipeline.from_pretrained(source, use_safetensors=True, **arguments)
    except _loading_errors() as error:
        raise ModelError(f"{source} cannot be loaded: {first_line(error)}") from error


def _from_checkpoint(file: Path, arguments: Mapping[str, Any]) -> Any:
    if file.suffix != ".safetensors":
        raise ModelError(f"{file} is not a safetensors file; convert it, since other formats can run code.")
    diffusers = _diffusers()
    name = "StableDiffusionXLPipeline" if _is_sdxl(file) else "StableDiffusionPipeline"
    try:
        return getattr(diffusers, name).from_single_file(str(file), **{"local_files_only": True, **arguments})
    except _loading_errors() as error:
        raise ModelError(
            f"{file} cannot be loaded: {first_line(error)} (pass config= with a folder of the same kind)."
        ) from error


def _is_sdxl(file: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "numpy") as tensors:
            keys: list[str] = list(tensors.keys())
    except SafetensorError as error:
        raise ModelError(f"{file} is not a valid safetensors file; download it again.") from error
    return any(key.startswith(_SDXL_PREFIX) for key in keys)


def _check_index(folder: Path) -> None:
    """Raise ``ModelError`` unless ``folder`` is a diffusers model with all its components as safetensors."""
    if not (folder / INDEX).is_file():
        raise ModelError(f"{folder} is not a diffusers model (no {INDEX}); give the folder that has one.")
    index = read_json(folder / INDEX)
    if not isinstance(index.get("_class_name"), str):
        raise ModelError(f"{folder} has its own pipeline code, which is never run; use a stock pipeline.")
    for part, value in index.items():
        if not part.startswith("_") and isinstance(value, list) and value[0] is not None:
            _check_part(folder, part, value[0])


def _check_part(folder: Path, part: str, library: str) -> None:
    if library not in _LIBRARIES:
        raise ModelError(
            f'{folder}: "{part}" is code from "{library}", which is never run; use a stock component.'
        )
    if not (folder / part).is_dir():
        raise ModelError(f"{folder / part} is missing; download the whole model.")
    files = [path for path in (folder / part).iterdir() if path.is_file()]
    pickles = [path for path in files if path.suffix in _PICKLES]
    if pickles and not any(path.suffix == ".safetensors" for path in files):
        raise ModelError(f"{pickles[0]} could run code; convert the model to safetensors.")


def _refuse_code(arguments: Mapping[str, Any]) -> None:
    for name in ("trust_remote_code", "custom_pipeline", "use_safetensors"):
        if name in arguments:
            raise ModelError(f"{name} cannot be set: code and pickles that come with a model are never run.")


def _diffusers() -> Any:
    try:
        import diffusers
        import torch  # noqa: F401 - diffusers imports without it, and fails later
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("Loading a model", "generate") from error
    return diffusers


def _loading_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that diffusers raises for incomplete, damaged or unsuitable models."""
    from diffusers.loaders.single_file_utils import SingleFileComponentError
    from safetensors import SafetensorError

    damaged = (OSError, SafetensorError, SingleFileComponentError)
    return (*damaged, AttributeError, KeyError, RuntimeError, TypeError, ValueError)
