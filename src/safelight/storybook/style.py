"""The three styles: cartoon, pencil sketch and mosaic."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.float32]

_TILE = 4
_PAPER = np.array([250, 246, 236], np.float32)


@cache
def _hatching(size: int) -> Pixels:
    """Return diagonal pencil strokes as an array (size, size, 1), 1 on a stroke and 0 elsewhere."""
    y, x = np.mgrid[0:size, 0:size]
    touched: Pixels = ((x + y) % 4 < 2).astype(np.float32)[..., None]
    return touched


@cache
def _grout(size: int) -> Pixels:
    """Return an array (size, size, 1), 1 on the joints between tiles and 0 on the tiles."""
    line = np.arange(size) % _TILE == _TILE - 1
    joints: Pixels = (line[:, None] | line[None, :]).astype(np.float32)[..., None]
    return joints


def cartoon(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image


def pencil_sketch(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a sketch: ink stays, and colour becomes paper with hatching in dark areas."""
    grey = np.asarray(image.convert("L"), np.float32)[..., None] / 255
    # A steep curve separates ink from dark clothes, so that a uniform does not become a black area.
    tone = np.interp(grey, (0, 0.14, 0.22, 1), (0.08, 0.2, 0.42, 1)).astype(np.float32)
    tone -= 0.16 * (1 - grey) * _hatching(image.height)
    return _image(tone * _PAPER * (0.98 + 0.02 * rng.random()))


def mosaic(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a mosaic: a grid of tiles that vary in brightness, with pale joints."""
    pixels = np.asarray(image, np.float32)
    size = image.height
    cells = size // _TILE
    glaze = rng.uniform(0.9, 1.08, (cells, cells, 1)).astype(np.float32)
    tiles = np.round(pixels / 24) * 24 * glaze.repeat(_TILE, 0).repeat(_TILE, 1)
    return _image(tiles + _grout(size) * 0.42 * (226 - tiles))


def _image(pixels: NDArray[np.floating[Any]]) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def backdrop(image: Image.Image, style: str) -> Image.Image:
    """Return the place as a backdrop in this style; a pencil sketch fades it."""
    if style != "pencil sketch":
        return image
    return Image.blend(image, Image.new("RGB", image.size, (255, 255, 255)), 0.5)


RENDER: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "cartoon": cartoon,
    "pencil sketch": pencil_sketch,
    "mosaic": mosaic,
}
