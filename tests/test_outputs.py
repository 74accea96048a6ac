from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from safelight.errors import ModelError
from safelight.guard.guard import Guard
from safelight.guard.outputs import plain_images

WHITE = Image.new("RGB", (8, 8), "white")


class Liar(Image.Image):
    """Is black, and says of itself that it is white."""

    def copy(self) -> Image.Image:
        return WHITE

    def convert(self, *_: Any, **__: Any) -> Image.Image:
        return WHITE

    def tobytes(self, *_: Any) -> bytes:
        return WHITE.tobytes()


def black() -> Image.Image:
    image = Image.new("RGB", (8, 8))
    image.__class__ = Liar
    return image


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "NoneType without images"),
        ((WHITE, WHITE), "tuple without images"),
        (SimpleNamespace(images=None), "SimpleNamespace without images"),
        (SimpleNamespace(frames=[[WHITE]]), "frames of a video"),
        (SimpleNamespace(images=[]), "none"),
        (SimpleNamespace(images=[WHITE]), "1 of the kind Image"),
        (SimpleNamespace(images=[WHITE] * 3), "3 of the kind Image"),
        (SimpleNamespace(images=[WHITE, None]), "2 of the kind Image, NoneType"),
        (SimpleNamespace(images=["a.png", "b.png"]), "2 of the kind str"),
        (SimpleNamespace(images=np.zeros((2, 8, 8, 3))), "one ndarray"),
        (SimpleNamespace(images=[np.zeros((8, 8, 3))] * 2), "2 of the kind ndarray"),
        (SimpleNamespace(images=[[WHITE], [WHITE]]), "2 of the kind list"),
        (SimpleNamespace(images=WHITE), "one Image"),
        (SimpleNamespace(images=iter([WHITE, WHITE])), "one list_iterator"),
        (SimpleNamespace(images={0: WHITE, 1: WHITE}), "one dict"),
    ],
)
def test_an_odd_answer_is_an_error_that_says_what_it_was(answer: Any, said: str) -> None:
    with pytest.raises(ModelError, match=rf"did not return 2 PIL images but {said}; use a pipeline"):
        plain_images(answer, 2)


def test_tensors_are_an_error() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(ModelError, match="but one Tensor"):
        plain_images(SimpleNamespace(images=torch.zeros(2, 3, 8, 8)), 2)


def test_an_image_that_cannot_be_read_is_an_error() -> None:
    class Broken(Image.Image):
        def load(self) -> Any:
            raise OSError("truncated")

    image = Image.new("RGB", (8, 8))
    image.__class__ = Broken
    with pytest.raises(ModelError, match="truncated"):
        plain_images(SimpleNamespace(images=[image]), 1)


def test_what_is_released_is_what_was_screened(guard: Guard) -> None:
    mine = [WHITE.copy(), black()]
    result = guard.generate(lambda **_: SimpleNamespace(images=mine), ["a cat", "a dog"], seed=1)
    assert [type(image) for image in result.images] == [Image.Image] * 2
    assert [image.getpixel((0, 0)) for image in result.images] == [(255, 255, 255), (0, 0, 0)]
    mine[0].paste("red", (0, 0, 8, 8))
    assert result.images[0].getpixel((0, 0)) == (255, 255, 255)
