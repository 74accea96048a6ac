"""Images and captions as a training reads them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from safelight.errors import RequestError
from safelight.training.encoded import Data, Encoded, Example, Square, encode


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _means(images: NDArray[np.uint8]) -> NDArray[np.float16]:
    """(N, 3, 1, 1)."""
    return images.mean((1, 2))[:, :, None, None].astype(np.float16)


def test_the_middle_of_an_image_is_what_counts() -> None:
    wide = np.zeros((64, 200, 3), np.uint8)
    wide[:, 68:132] = np.random.default_rng(0).integers(256, size=(64, 64, 3))
    square = Square.of(_png(wide), 64)
    assert square is not None
    assert np.array_equal(square.pixels, wide[:, 68:132])
    assert (square.size, square.corner) == ((64, 200), (0, 68))


def test_the_corner_is_of_the_image_made_small() -> None:
    """As SDXL is told (Podell et al. 2023, section 2.2): half as wide, 50 of 100 columns are cut off."""
    square = Square.of(_png(np.zeros((300, 100, 3), np.uint8)), 50)
    assert square is not None
    assert (square.pixels.shape, square.size, square.corner) == ((50, 50, 3), (300, 100), (50, 0))


def test_what_is_written_once_is_read_and_nothing_else(tmp_path: Path) -> None:
    colours = [np.full((8, 8, 3), value, np.uint8) for value in (0, 100, 200)]
    examples = [Example(_png(each), f"a wall\nnumber {i}") for i, each in enumerate(colours)]
    examples.insert(1, Example(b"no image", "a dog"))
    first = encode(Data(examples, "walls"), tmp_path / "data", 4, _means)
    assert len(first) == 3
    assert first.latents[:, :, 0, 0].tolist() == [[0] * 3, [100] * 3, [200] * 3]
    assert first.captions == tuple(f"a wall\nnumber {i}" for i in range(3))
    assert first.sizes.tolist() == [[8, 8]] * 3

    def never() -> Iterator[Example]:
        raise AssertionError
        yield

    again = encode(Data(never(), "walls"), tmp_path / "data", 4, _means)
    assert np.array_equal(again.latents, first.latents)
    assert Encoded.read(tmp_path / "data").captions == first.captions
    for side, about, of in ((8, "walls", ""), (4, "doors", ""), (4, "walls", "means")):
        with pytest.raises(RequestError, match="has other data in it"):
            encode(Data(never(), about), tmp_path / "data", side, _means, of)


def test_one_that_was_stopped_begins_anew(tmp_path: Path) -> None:
    def stops() -> Iterator[Example]:
        for i in range(40):
            yield Example(_png(np.full((300, 300, 3), i, np.uint8)), "a wall")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(Data(stops(), ""), tmp_path, 300, _means)
    one = [Example(_png(np.zeros((9, 9, 3), np.uint8)), "a wall")]
    assert len(encode(Data(one, ""), tmp_path, 300, _means)) == 1


def test_without_an_image_there_is_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no image with a caption"):
        encode(Data([Example(b"no image", "a dog")], ""), tmp_path, 8, _means)
    with pytest.raises(RequestError, match="no image with a caption"):
        encode(Data([], ""), tmp_path, 8, _means)
