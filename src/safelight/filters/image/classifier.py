"""Image classifiers of the transformers library, in PyTorch or as ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safelight.errors import FilterError, ModelError
from safelight.filters.image.transformers_model import (
    as_rgb,
    check_unit_interval,
    load_model,
    output_labels,
    prepare_inputs,
)
from safelight.models.files import read_json
from safelight.models.onnx import open_session
from safelight.models.source import TRANSFORMERS, ModelSource, find_source
from safelight.registry import register
from safelight.types import Finding

_ONNX = "model.onnx"
_SUPPORTED, _STEPS = ("ViT", "Siglip"), ("do_resize", "do_rescale", "do_normalize")

Floats = NDArray[np.float64]
Network = Callable[[Sequence[Image.Image]], NDArray[np.float32]]


@register("image_filter", "image-classifier")
class ImageClassifier:
    """Reports the class probabilities of a model for ``image-classification``.

    ``model`` is a folder, or a hub id with its commit as ``revision``. A folder with a ``model.onnx`` runs on
    ONNX Runtime without PyTorch, any other in PyTorch on ``device``. ``labels`` maps the classes that are
    reported to labels; by default all classes are reported under their own names. Classes are mutually
    exclusive unless the model's ``problem_type`` is multi-label, so the probabilities of classes that map to
    the same label are summed. Scores below ``threshold`` are left out; ``batch`` is the batch size.

    Raises ``ModelError`` for a model that does not exist, is not pinned, is neither safetensors nor ONNX, or
    is not an image classifier, ``FilterError`` for invalid options, and ``MissingExtraError`` if PyTorch is
    needed and missing.
    """

    @staticmethod
    def requires(options: Mapping[str, Any]) -> Mapping[str, str]:
        return {} if (Path(str(options["model"])) / _ONNX).is_file() else TRANSFORMERS

    def __init__(
        self,
        model: str | Path,
        revision: str | None = None,
        labels: Mapping[str, str] | None = None,
        threshold: float = 0.05,
        device: str | None = None,
        batch: int = 8,
        name: str = "image-classifier",
    ) -> None:
        check_unit_interval("threshold", threshold)
        if batch < 1:
            raise FilterError(f"batch is {batch}; it must be at least 1.")
        source = find_source(model, revision)
        config, self._network = _open(source, device)
        self.name = name
        self.version = source.version
        self._reported = output_labels(_label_names(source, config), labels)
        self.labels = frozenset(label for label in self._reported if label)
        self._exclusive = _exclusive(source, config)
        self._threshold = threshold
        self._batch = batch

    def find(self, images: Sequence[Image.Image]) -> list[list[Finding] | FilterError]:
        answers: list[list[Finding] | FilterError] = []
        for start in range(0, len(images), self._batch):
            answers += self._classify(images[start : start + self._batch])
        return answers

    def _classify(self, images: Sequence[Image.Image]) -> list[list[Finding] | FilterError]:
        rgb = [as_rgb(image) for image in images]
        seen = [image for image in rgb if not isinstance(image, FilterError)]
        rows = iter(self._network(seen) if seen else ())
        return [image if isinstance(image, FilterError) else self._findings(next(rows)) for image in rgb]

    def _findings(self, logits: NDArray[np.float32]) -> list[Finding] | FilterError:
        if logits.shape != (len(self._reported),) or not np.isfinite(logits).all():
            return FilterError("the model's output is not finite")
        scores: dict[str, float] = {}
        for label, score in zip(
            self._reported, _probabilities(logits, self._exclusive).tolist(), strict=True
        ):
            if label:
                before = scores.get(label, 0.0)
                scores[label] = min(1.0, before + score) if self._exclusive else max(before, score)
        return [
            Finding(label, score, self.name) for label, score in scores.items() if score >= self._threshold
        ]


def _open(source: ModelSource, device: str | None) -> tuple[dict[str, Any], Network]:
    """Return the model's configuration, and a function from RGB images to logits (images, classes)."""
    if source.folder and (source.folder / _ONNX).is_file():
        return read_json(source.folder / "config.json"), _onnx(source.folder)
    processor, model = load_model("ImageClassification", source, device)

    def network(images: Sequence[Image.Image]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            logits = model(**prepare_inputs(processor, images, model)).logits
        array: NDArray[np.float32] = logits.float().cpu().numpy()
        return array

    return model.config.to_dict(), network


def _onnx(folder: Path) -> Network:
    session = open_session(folder / _ONNX)
    pixels = _preprocessing(folder)
    (given,) = session.get_inputs()

    def network(images: Sequence[Image.Image]) -> NDArray[np.float32]:
        (logits, *_) = session.run(None, {given.name: np.stack([pixels(image) for image in images])})
        array: NDArray[np.float32] = logits
        return array

    return network


def _preprocessing(folder: Path) -> Callable[[Image.Image], NDArray[np.float32]]:
    """Return a function that preprocesses an RGB image to (3, height, width).

    It follows the folder's ``preprocessor_config.json``. Raises ``ModelError`` if that asks for anything but
    resizing, rescaling and normalising, as for ViT and SigLIP.
    """
    config = read_json(folder / "preprocessor_config.json")
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type"))
    plain = all(config.get(step, True) for step in _STEPS) and not config.get("do_center_crop")
    try:
        if not (plain and kind.startswith(_SUPPORTED)):
            raise ValueError(kind)
        size = config["size"]["width"], config["size"]["height"]
        resample = Image.Resampling(config["resample"])
        mean, deviation = np.array(config["image_mean"]), np.array(config["image_std"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"the image preprocessing of {folder} is not supported ({error}); remove {_ONNX} to use PyTorch."
        ) from error
    factor = config.get("rescale_factor", 1 / 255)

    def pixels(image: Image.Image) -> NDArray[np.float32]:
        values = (np.asarray(image.resize(size, resample)) * factor - mean) / deviation
        channels: NDArray[np.float32] = values.astype(np.float32).transpose(2, 0, 1)
        return channels

    return pixels


def _label_names(source: ModelSource, config: Mapping[str, Any]) -> Mapping[Any, str]:
    names: Mapping[Any, str] | None = config.get("id2label")
    if not names:
        raise ModelError(f"the config.json of {source.name} has no labels (id2label); add them.")
    return names


def _exclusive(source: ModelSource, config: Mapping[str, Any]) -> bool:
    """Return whether the classes are mutually exclusive. Raises ``ModelError`` for regression models."""
    problem = config.get("problem_type")
    if problem == "regression":
        raise ModelError(f"{source.name} is a regression model and has no probabilities; use a classifier.")
    return problem != "multi_label_classification" and len(config["id2label"]) > 1


def _probabilities(logits: NDArray[np.float32], exclusive: bool) -> Floats:
    """Return the softmax of the logits for mutually exclusive classes, else the sigmoid of each."""
    if exclusive:
        exponentials = np.exp(logits.astype(float) - logits.max())
        probabilities: Floats = exponentials / exponentials.sum()
    else:
        probabilities = 1 / (1 + np.exp(-logits.astype(float).clip(-500, 500)))
    return probabilities
