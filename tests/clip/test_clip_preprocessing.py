from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from safelight.clip import Preprocessing
from safelight.errors import ModelError
from safelight.storybook.scene import Storybook

_SCENE = Storybook(3).scene(0).image


def _reference(image: Image.Image, **size: object) -> np.ndarray:
    return np.asarray(CLIPImageProcessorPil(**size)(image, return_tensors="np")["pixel_values"][0])


def _noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", [(64, 64), (224, 224), (300, 224), (97, 641), (640, 97), (1024, 1023)])
def test_it_is_that_of_transformers(size: tuple[int, int]) -> None:
    image = _SCENE.resize(size, Image.Resampling.LANCZOS)
    np.testing.assert_allclose(Preprocessing()(image), _reference(image), rtol=0, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300))
def test_images_of_any_shape_are_prepared_alike(width: int, height: int) -> None:
    image = _noise(width, height)
    size = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
    ours = Preprocessing.read(size, 224)(image)
    assert ours.shape == (3, 32, 32)
    if max(width, height) <= 20 * min(width, height):
        np.testing.assert_allclose(ours, _reference(image, **size), rtol=0, atol=1e-6)


def test_a_long_thin_image_costs_no_more_than_its_middle() -> None:
    assert Preprocessing()(Image.new("RGB", (60_000, 2), "red")).shape == (3, 224, 224)


@pytest.mark.parametrize(
    "config",
    [
        {"size": {"height": 3, "width": 4}},
        {"size": 32, "crop_size": 64},
        {"size": 0},
        {"image_std": [1.0, 0.0, 1.0]},
        {"image_mean": [0.5]},
        {"size": "large"},
    ],
)
def test_what_cannot_be_done_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        Preprocessing.read(config, 224)
