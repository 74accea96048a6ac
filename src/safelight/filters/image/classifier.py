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
    check_share,
    label_table,
    load,
    prepare,
)
from safelight.models.files import read_json
from safelight.models.onnx import open_session
from safelight.models.source import TRANSFORMERS, ModelSource, find_source
from safelight.registry import register
from safelight.types import Finding

_ONNX = "model.onnx"
_PLAIN, _STEPS = ("ViT", "Siglip"), ("do_resize", "do_rescale", "do_normalize")

Floats = NDArray[np.float64]
Network = Callable[[Sequence[Image.Image]], NDArray[np.float32]]


@register("image_filter", "image-classifier")
class ImageClassifier:
    """Reports how likely an image is of each class of a model for ``image-classification``.

    ``model`` is a folder, or a hub id with its commit as ``revision``. A folder with a ``model.onnx`` runs on
    ONNX Runtime without PyTorch, any other in PyTorch on ``device``. ``labels`` says which classes are
    reported and as what; without it all are, by their own names. Classes exclude each other unless the model
    says otherwise (``problem_type``), so those that are reported as one label add up. Scores below
    ``threshold`` are left out; ``batch`` images are looked at together.

    Raises ``ModelError`` for a model that is not there, not pinned, not safetensors or ONNX, or of another
    kind, ``FilterError`` for options that make no sense, ``MissingExtraError`` without PyTorch.
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
        check_share("threshold", threshold)
        if batch < 1:
            raise FilterError(f"batch is {batch}; it must be at least 1.")
        source = find_source(model, revision)
        config, self._network = _open(source, device)
        self.name = name
        self.version = source.version
        self._reported = label_table(_label_names(source, config), labels)
        self.labels = frozenset(label for label in self._reported if label)
        self._exclusive = _exclusive(source, config)
        self._threshold = threshold
        self._batch = batch

    def find(self, images: Sequence[Image.Image]) -> list[list[Finding] | FilterError]:
        answers: list[list[Finding] | FilterError] = []
        for start in range(0, len(images), self._batch):
            answers += self._look(images[start : start + self._batch])
        return answers

    def _look(self, images: Sequence[Image.Image]) -> list[list[Finding] | FilterError]:
        rgb = [as_rgb(image) for image in images]
        seen = [image for image in rgb if not isinstance(image, FilterError)]
        rows = iter(self._network(seen) if seen else ())
        return [image if isinstance(image, FilterError) else self._findings(next(rows)) for image in rgb]

    def _findings(self, logits: NDArray[np.float32]) -> list[Finding] | FilterError:
        if logits.shape != (len(self._reported),) or not np.isfinite(logits).all():
            return FilterError("the model answers something that is no number")
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
    """The model's configuration, and a call that gives the logits (images, classes) of RGB images."""
    if source.folder and (source.folder / _ONNX).is_file():
        return read_json(source.folder / "config.json"), _onnx(source.folder)
    processor, model = load("ImageClassification", source, device)

    def network(images: Sequence[Image.Image]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            logits = model(**prepare(processor, images, model)).logits
        array: NDArray[np.float32] = logits.float().cpu().numpy()
        return array

    return model.config.to_dict(), network


def _onnx(folder: Path) -> Network:
    session = open_session(folder / _ONNX)
    pixels = _preparation(folder)
    (given,) = session.get_inputs()

    def network(images: Sequence[Image.Image]) -> NDArray[np.float32]:
        (logits, *_) = session.run(None, {given.name: np.stack([pixels(image) for image in images])})
        array: NDArray[np.float32] = logits
        return array

    return network


def _preparation(folder: Path) -> Callable[[Image.Image], NDArray[np.float32]]:
    """RGB image -> (3, height, width), as the folder's ``preprocessor_config.json`` says.

    Raises ``ModelError`` if it says anything but to resize, scale and normalise, as ViT and SigLIP do.
    """
    config = read_json(folder / "preprocessor_config.json")
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type"))
    plain = all(config.get(step, True) for step in _STEPS) and not config.get("do_center_crop")
    try:
        if not (plain and kind.startswith(_PLAIN)):
            raise ValueError(kind)
        size = config["size"]["width"], config["size"]["height"]
        resample = Image.Resampling(config["resample"])
        mean, deviation = np.array(config["image_mean"]), np.array(config["image_std"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{folder} prepares images in a way of its own ({error}); leave out {_ONNX} and use PyTorch."
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
        raise ModelError(f"the config.json of {source.name} names no labels (id2label); add them.")
    return names


def _exclusive(source: ModelSource, config: Mapping[str, Any]) -> bool:
    """Whether an image is of one class only. Raises ``ModelError`` where there are no probabilities."""
    problem = config.get("problem_type")
    if problem == "regression":
        raise ModelError(f"{source.name} estimates a quantity and no probabilities; give a classifier.")
    return problem != "multi_label_classification" and len(config["id2label"]) > 1


def _probabilities(logits: NDArray[np.float32], exclusive: bool) -> Floats:
    """Softmax of the logits where classes exclude each other, else the sigmoid of each."""
    if exclusive:
        exponentials = np.exp(logits.astype(float) - logits.max())
        probabilities: Floats = exponentials / exponentials.sum()
    else:
        probabilities = 1 / (1 + np.exp(-logits.astype(float).clip(-500, 500)))
    return probabilities
