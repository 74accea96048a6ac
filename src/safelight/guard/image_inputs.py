"""Images in the arguments of a call, as plain PIL images, so that the pipeline gets what was screened."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safelight.concurrency.deadline import Deadline
from safelight.errors import ImageError, first_line
from safelight.guard.arguments import is_tensor
from safelight.images import ImageLimits, open_image

_CHANNELS = (1, 3, 4)
_EIGHT_BITS = 255


def image_copy(place: str, image: Image.Image, limits: ImageLimits) -> Image.Image:
    """Return a plain copy of the image, or of the current frame of an animation.

    Raises ``ImageError`` for one that is damaged or has too many pixels.
    """
    if image.width * image.height > limits.pixels:
        raise ImageError(
            f"{place} has {image.width} × {image.height} pixels; give one with at most {limits.pixels:,}."
        )
    try:
        return Image.Image.copy(image)
    except Exception as error:
        reason = first_line(error) or "it is damaged"
        raise ImageError(f"{place} cannot be read ({type(error).__name__}: {reason}).") from error


def is_encoded(value: Any) -> bool:
    return isinstance(value, bytes | bytearray | memoryview | io.BytesIO)


def decoded(place: str, encoded: Any, limits: ImageLimits, deadline: Deadline | None = None) -> Image.Image:
    """Return the image from encoded bytes or an array, in RGB as viewers show it. Raises ``ImageError``."""
    try:
        view = next(open_image(encoded, limits, deadline))
    except ImageError as error:
        raise ImageError(f"{place}: {error}") from error
    view.info = {}
    return view


def is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or is_tensor(value)


def images_of_array(place: str, array: Any, limits: ImageLimits) -> Image.Image | list[Image.Image]:
    """Return the image in an array of 2 or 3 dimensions, or the list of images in an array of 4.

    Channels come first or last; values are uint8, bool, or floats in [0, 1]. Raises ``ImageError`` for an
    array that may be latents or whose layout is ambiguous.
    """
    pixels = _numpy(place, array)
    if pixels.ndim == 4:
        return [_image(place, each, limits) for each in pixels]
    return _image(place, pixels, limits)


def _numpy(place: str, array: Any) -> NDArray[Any]:
    """Return a copy of the values, so that the caller cannot change them later."""
    try:
        if is_tensor(array):
            array = array.detach().cpu()
            array = (array.float() if array.is_floating_point() else array).numpy()
        return np.array(array, copy=True, subok=False)
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise ImageError(f"{place} cannot be read as an image ({first_line(error)}).") from error


def _image(place: str, pixels: NDArray[Any], limits: ImageLimits) -> Image.Image:
    if pixels.ndim == 3:
        pixels = _channels_last(place, pixels)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(_EIGHT_BITS)
    if pixels.ndim == 3 and pixels.shape[2] == 4 and pixels.dtype != np.uint8:
        raise ImageError(f"{place} has four channels of {pixels.dtype}, as latents do; give a PIL image.")
    return decoded(place, pixels, limits)


def _channels_last(place: str, pixels: NDArray[Any]) -> NDArray[Any]:
    first, last = pixels.shape[0] in _CHANNELS, pixels.shape[2] in _CHANNELS
    if first == last:
        raise ImageError(f"{place} has the shape {pixels.shape}, not that of an image; give a PIL image.")
    pixels = np.moveaxis(pixels, 0, 2) if first else pixels
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
