"""Loads image models of the transformers library and prepares their inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from safelight.errors import FilterError, ModelError, first_line, unknown_name
from safelight.models.pipelines import best_device
from safelight.models.source import ModelSource, transformers_library


def load_model(kind: str, source: ModelSource, device: str | None) -> tuple[Any, Any]:
    """Load an image processor and a model of transformers' class ``AutoModelFor{kind}``.

    Only safetensors are read, and code that comes with a model is never run. Raises ``ModelError`` if the
    model cannot be loaded or some weights are missing, which transformers would initialise randomly.
    """
    transformers = transformers_library("A model of the transformers library")
    safe = {"trust_remote_code": False, **source.arguments}
    try:
        # With the Pillow backend, results do not depend on whether torchvision is installed.
        processor = transformers.AutoImageProcessor.from_pretrained(source.name, backend="pil", **safe)
        model, loaded = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(
            source.name, use_safetensors=True, output_loading_info=True, **safe
        )
    except _loading_errors() as error:
        raise ModelError(f"{source.name} cannot be loaded: {first_line(error)}") from error
    if lacking := [*loaded["missing_keys"], *loaded["mismatched_keys"]]:
        raise ModelError(
            f"the weights of {source.name} lack {lacking[0]}; use a model that was trained for this task."
        )
    return processor, model.to(device or best_device()).eval()


def output_labels(id2label: Mapping[Any, str], table: Mapping[str, str] | None) -> list[str | None]:
    """Return the label of each output: by ``table`` (None if not in it), or without a table its own name."""
    names = [id2label[number] for number in sorted(id2label, key=int)]
    for name in table or ():
        if name not in names:
            raise FilterError(unknown_name("label of the model", name, names))
    return [table.get(name) for name in names] if table else list(names)


def check_unit_interval(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise FilterError(f"{name} is {value}; it must be in [0, 1].")


def as_rgb(image: Image.Image) -> Image.Image | FilterError:
    """Return the image in RGB, or a ``FilterError`` if it cannot be decoded."""
    try:
        if not image.width or not image.height:
            return FilterError("it has no pixels")
        return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow's, for PNGs
        return FilterError(str(error))


def prepare_inputs(processor: Any, images: Sequence[Image.Image], model: Any) -> Any:
    """Return the inputs of ``model`` for RGB images."""
    inputs = processor(images=list(images), input_data_format="channels_last", return_tensors="pt")
    return inputs.to(model.device, model.dtype)


def _loading_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that transformers raises for incomplete, damaged or unsuitable models."""
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
