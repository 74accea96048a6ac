"""Models of the transformers library that look at images: where they come from, and how they are loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from safelight.errors import FilterError, ModelError, first_line, no_such
from safelight.models.pipelines import best_device
from safelight.models.source import ModelSource, transformers_library


def load(kind: str, source: ModelSource, device: str | None) -> tuple[Any, Any]:
    """The image processor and the model of transformers' class ``AutoModelFor{kind}``, ready to be asked.

    Only safetensors are read and no code that comes with a model is run. Raises ``ModelError`` where a part
    of the weights is missing as well: transformers would go on with random numbers in their place.
    """
    transformers = transformers_library("A model of the transformers library")
    safe = {"trust_remote_code": False, **source.arguments}
    try:
        # Pillow's backend gives the same numbers whether torchvision is installed or not.
        processor = transformers.AutoImageProcessor.from_pretrained(source.name, backend="pil", **safe)
        model, loaded = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(
            source.name, use_safetensors=True, output_loading_info=True, **safe
        )
    except _loading_errors() as error:
        raise ModelError(f"{source.name} cannot be loaded: {first_line(error)}") from error
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
    """The image in RGB, or why it cannot be looked at."""
    try:
        if not image.width or not image.height:
            return FilterError("it has no pixels")
        return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow's, for PNGs
        return FilterError(str(error))


def prepare(processor: Any, images: Sequence[Image.Image], model: Any) -> Any:
    """What ``model`` is given for RGB images."""
    inputs = processor(images=list(images), input_data_format="channels_last", return_tensors="pt")
    return inputs.to(model.device, model.dtype)


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
