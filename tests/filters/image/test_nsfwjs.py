"""The packaged network of nsfwjs, beside what the original computes in TensorFlow.js."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from safelight import registry
from safelight.errors import FilterError, ModelError
from safelight.filters.image import nsfwjs
from safelight.filters.image.nsfwjs import Nsfwjs
from safelight.models.files import file_sha256
from safelight.storybook import Storybook

PHOTOGRAPHS = [Image.fromarray(image) for image in load_sample_images().images]
# nsfwjs 4.3.0 with TensorFlow.js 4.22.0 (WebAssembly) on images of 224 × 224 pixels.
REFERENCE: dict[str, dict[str, float]] = json.loads(
    Path(__file__).with_name("nsfwjs_reference.json").read_text("utf-8")
)
SIDE = 224


@pytest.fixture(scope="module")
def filter_() -> Nsfwjs:
    return Nsfwjs(threshold=1e-12)


def _scores(filter_: Nsfwjs, images: list[Image.Image]) -> list[dict[str, float]]:
    found = filter_.find(images)
    assert not any(isinstance(each, FilterError) for each in found)
    return [
        {finding.label: finding.score for finding in each}
        for each in found
        if not isinstance(each, FilterError)
    ]


def _reference_image(name: str) -> Image.Image:
    """Return an image of the reference: "photograph 0 at 208, 203", which are the left and top pixels."""
    if name == "noise":
        return Image.fromarray(np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), np.uint8))
    if name == "grey":
        return Image.new("RGB", (SIDE, SIDE), (128, 128, 128))
    _, number, _, left, top = name.replace(",", "").split()
    return PHOTOGRAPHS[int(number)].crop((int(left), int(top), int(left) + SIDE, int(top) + SIDE))


def test_scores_are_those_of_the_original(filter_: Nsfwjs) -> None:
    found = _scores(filter_, [_reference_image(name) for name in REFERENCE])
    for name, scores in zip(REFERENCE, found, strict=True):
        expected = {label: REFERENCE[name][label.capitalize()] for label in scores}
        assert scores == pytest.approx(expected, abs=0.01), name
    assert all(scores.keys() == filter_.labels for scores in found)


def test_the_version_is_that_of_the_packaged_network(filter_: Nsfwjs) -> None:
    assert filter_.version == f"4.3.0 {file_sha256(nsfwjs.NETWORK)[:12]}"
    assert file_sha256(nsfwjs.NETWORK) == nsfwjs.NETWORK_SHA256


def test_harmless_images_have_low_scores(filter_: Nsfwjs) -> None:
    scenes = [scene.image for scene in Storybook(1).scenes(4)]
    assert max(max(scores.values()) for scores in _scores(filter_, [*PHOTOGRAPHS, *scenes])) < 0.5


def test_an_image_is_scaled_with_all_of_its_pixels(filter_: Nsfwjs) -> None:
    """A mosaic whose tenth pixels are another image is seen as the mosaic."""
    photograph = PHOTOGRAPHS[0].resize((SIDE, SIDE))
    mosaic = np.repeat(np.repeat(np.asarray(photograph), 10, axis=0), 10, axis=1)
    mosaic[::10, ::10] = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    original, hidden = _scores(filter_, [photograph, Image.fromarray(mosaic)])
    assert hidden == pytest.approx(original, abs=0.05)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "CMYK", "YCbCr", "I;16", "F"])
def test_every_mode_is_read(filter_: Nsfwjs, mode: str) -> None:
    photograph = PHOTOGRAPHS[1].convert("L").convert(mode) if mode in ("I;16", "F") else PHOTOGRAPHS[1]
    assert sum(_scores(filter_, [photograph.convert(mode)])[0].values()) < 1


def test_grey_is_read_as_grey_in_rgb(filter_: Nsfwjs) -> None:
    grey = PHOTOGRAPHS[0].convert("L")
    assert _scores(filter_, [grey]) == _scores(filter_, [grey.convert("RGB")])


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 9), (5000, 40)])
def test_images_of_every_shape_are_read(filter_: Nsfwjs, size: tuple[int, int]) -> None:
    (scores,) = _scores(filter_, [PHOTOGRAPHS[0].resize(size)])
    assert scores.keys() == filter_.labels


def test_only_scores_from_the_threshold_are_reported() -> None:
    assert Nsfwjs(threshold=0.99).find(PHOTOGRAPHS) == [[], []]


def test_images_that_cannot_be_read_block_themselves_alone(filter_: Nsfwjs, tmp_path: Path) -> None:
    PHOTOGRAPHS[0].save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(data[: len(data) // 2])
    with Image.open(tmp_path / "half.png") as half:
        found = filter_.find([PHOTOGRAPHS[0], half, Image.new("RGB", (0, 5)), PHOTOGRAPHS[1]])
    assert [isinstance(each, FilterError) for each in found] == [False, True, True, False]


def test_batches_and_threads_change_nothing(filter_: Nsfwjs) -> None:
    assert Nsfwjs(threshold=1e-12, threads=3).find(PHOTOGRAPHS * 3) == filter_.find(PHOTOGRAPHS) * 3


@pytest.mark.parametrize("options", [{"threshold": 0.0}, {"threshold": 1.5}, {"threads": 0}])
def test_invalid_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(FilterError, match=next(iter(options))):
        registry.build("image_filter", "nsfwjs", **options)


def test_a_missing_network_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nsfwjs, "NETWORK", tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"model\.onnx is missing"):
        Nsfwjs()
