"""Beside transformers' own pipeline, on a tiny YOLOS with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from safelight import registry
from safelight.errors import FilterError, ModelError

SaveModel = Callable[..., Path]
Images = list[Image.Image]


def _build(model: Path, **options: Any) -> Any:
    return registry.build("image_filter", "object-detector", model=str(model), **options)


def test_boxes_are_those_of_transformers_pipeline(save_detector: SaveModel, images: Images) -> None:
    from transformers import pipeline

    folder, threshold = save_detector("knife", "gun", "flower"), 0.3
    images = [image for image in images if min(image.size) > 3]
    detect = pipeline("object-detection", model=str(folder), device="cpu")
    answers = _build(folder, threshold=threshold).find(images)
    assert sum(map(len, answers)) > 3
    for image, answer in zip(images, answers, strict=True):
        expected = detect(image, threshold=threshold)  # with boxes in whole pixels
        assert [finding.label for finding in answer] == [each["label"] for each in expected]
        assert [finding.score for finding in answer] == pytest.approx([each["score"] for each in expected])
        for finding, each in zip(answer, expected, strict=True):
            sides = np.array([each["box"][side] for side in ("xmin", "ymin", "xmax", "ymax")])
            box, size = finding.evidence, np.array([*image.size, *image.size])
            mine = np.array([box.left, box.top, box.right, box.bottom]) * size
            assert np.abs(mine - sides.clip(0, size)).max() <= 1


def test_only_labels_of_the_table_are_reported(save_detector: SaveModel, images: Images) -> None:
    folder = save_detector("knife", "gun", "flower")
    everything = _build(folder, threshold=0).find(images[:2])
    weapons = _build(folder, threshold=0, labels={"knife": "weapons", "gun": "weapons"})
    assert weapons.labels == {"weapons"}
    for answer, all_ in zip(weapons.find(images[:2]), everything, strict=True):
        expected = [finding.score for finding in all_ if finding.label != "flower"]
        assert [(finding.label, finding.score) for finding in answer] == [("weapons", s) for s in expected]
    with pytest.raises(FilterError, match='did you mean "knife"'):
        _build(folder, labels={"knive": "weapons"})


def test_what_cannot_be_seen_blocks_itself_alone(save_detector: SaveModel, images: Images) -> None:
    detect = _build(save_detector("knife"))
    thin, empty = Image.new("RGB", (900, 1)), Image.new("RGB", (0, 9))
    first, *others, last = detect.find([images[0], thin, empty, images[1]])
    assert [first, last] == detect.find(images[:2])
    assert all(isinstance(other, FilterError) for other in others)


def test_answers_that_are_no_numbers_block(save_detector: SaveModel, images: Images) -> None:
    from safetensors.numpy import load_file, save_file

    path = save_detector("knife") / "model.safetensors"
    weights = load_file(path)
    weights["bbox_predictor.layers.2.bias"][:] = np.nan
    save_file(weights, path, {"format": "pt"})
    (answer, *_) = _build(path.parent).find(images)
    assert isinstance(answer, FilterError)
    assert "not finite" in str(answer)


def test_a_classifier_is_no_detector(save_classifier: SaveModel) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        _build(save_classifier("knife", "gun"))
