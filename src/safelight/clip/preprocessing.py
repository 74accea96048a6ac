"""Image preprocessing for CLIP, as by transformers' ``CLIPImageProcessor``, without torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from safelight.errors import ModelError

if TYPE_CHECKING:
    from PIL.Image import Image

Floats = NDArray[np.float32]

_MAX_ASPECT_RATIO = 20


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Resizes the shorter side (bicubic), crops the centre and normalises the colours.

    ``size`` is the length of the shorter side after resizing and ``crop`` the side of the square crop, both
    in pixels. The defaults are those of OpenAI's models.
    """

    size: int = 224
    crop: int = 224
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)

    def __post_init__(self) -> None:
        if not 0 < self.crop <= self.size or len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ModelError(f"the preprocessing {self} is invalid; correct the model's files.")

    @classmethod
    def read(cls, config: Mapping[str, Any], default_size: int) -> Self:
        """Return the preprocessing of a ``preprocessor_config.json`` of transformers.

        Missing values default to those of OpenAI's CLIP, and ``size`` to ``default_size``.
        """
        size = _side(config.get("size", default_size))
        mean, std = (tuple(config.get(f"image_{name}", getattr(cls(), name))) for name in ("mean", "std"))
        return cls(size, _side(config.get("crop_size", size)), mean, std)

    def __call__(self, rgb: Image) -> Floats:
        """Return the pixels of an RGB image, (3, crop, crop)."""
        from PIL import Image

        # Otherwise resizing a long and thin image would need gigabytes.
        rgb = _center_crop(rgb, (_MAX_ASPECT_RATIO * min(rgb.size),) * 2)
        resized = rgb.resize(self._resized(rgb.size), Image.Resampling.BICUBIC)
        pixels = np.asarray(_center_crop(resized, (self.crop, self.crop)), np.float32) / np.float32(255)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1))

    def _resized(self, sides: tuple[int, int]) -> tuple[int, int]:
        short = min(sides)
        width, height = (self.size if side == short else int(self.size * side / short) for side in sides)
        return width, height


def _center_crop(image: Image, max_size: tuple[int, int]) -> Image:
    """Return a centre crop of ``image`` whose sides are at most those of ``max_size``."""
    width, height = (min(side, limit) for side, limit in zip(image.size, max_size, strict=True))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _side(value: Any) -> int:
    """Return the side given as a number of pixels, {"shortest_edge": …}, or {"height": …, "width": …}."""
    sides = set(value.values()) if isinstance(value, dict) else {value}
    if len(sides) != 1 or not isinstance(side := sides.pop(), int):
        raise ModelError(f"the image size {value} is not supported; use a model with square inputs.")
    return side
