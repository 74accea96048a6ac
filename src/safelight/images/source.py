"""What an image is given as: a PIL image, an array, or encoded bytes wherever they lie."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from safelight.errors import ImageError
from safelight.images.containers import check_container
from safelight.images.limits import ImageLimits

Source = Image.Image | NDArray[Any] | bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO
"""An image; encoded bytes, or a file that has them, by its path or opened; or an array (H, W), (H, W, 3)
or (H, W, 4), of uint8 or of floats in [0, 1]."""

# What browsers and phones show; JPEG with several images in it (MPO) comes as JPEG. Pillow reads more,
# some of it by running other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
SUFFIXES = frozenset(
    {".apng", ".avif", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg"}
    | {".mpo", ".png", ".tif", ".tiff", ".webp"}
)
_CHANNELS = (3, 4)
_BRIGHTEST = 255
_SIDE = 1 << 16  # of an image, as in JPEG and GIF
_ROWS = 256  # of an array of floats that are converted at a time


def opened(encoded: bytes, limits: ImageLimits) -> Image.Image:
    """The image that ``encoded`` holds, not decoded yet."""
    check_container(encoded, limits)
    try:
        return Image.open(io.BytesIO(encoded), formats=_FORMATS)
    except UnidentifiedImageError:
        raise ImageError(f"it cannot be read as an image; {', '.join(_FORMATS)} can.") from None


def read_encoded(source: Any, limit: int) -> bytes:
    """The bytes of a file, however it is given; at most ``limit``."""
    if isinstance(source, str | os.PathLike):
        encoded = _read(Path(source), limit)
    elif isinstance(source, bytes | bytearray | memoryview):
        encoded = bytes(source[: limit + 1])
    elif callable(getattr(source, "read", None)):
        encoded = source.read(limit + 1)
    else:
        raise ImageError(f"{type(source).__name__} is no image; give a PIL image, a file or its bytes.")
    if not isinstance(encoded, bytes):
        raise ImageError("the file gives text; open it in binary mode.")
    if not encoded:
        raise ImageError("it is empty.")
    if len(encoded) > limit:
        raise ImageError(f"it is larger than {limit:,} bytes.")
    return encoded


def _read(path: Path, limit: int) -> bytes:
    try:
        # Opening a pipe or a device could take for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ImageError("it is no file.")
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise ImageError(f"it cannot be read: {error.strerror or error}.") from error


def from_array(array: NDArray[Any], limit: int) -> Image.Image:
    """The image of an array with at most ``limit`` pixels."""
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS)
    if not shaped or 0 in array.shape:
        raise ImageError(f"an array of shape {array.shape} is no image; give (height, width, 3).")
    check_size((array.shape[1], array.shape[0]), limit)
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):
            raise ImageError("an array of floats must be in [0, 1].")
        array = _in_bytes(array)
    if array.dtype != np.uint8:
        raise ImageError(f"an array of {array.dtype} is no image; give uint8 or floats in [0, 1].")
    return Image.fromarray(np.ascontiguousarray(array))


def _in_bytes(floats: NDArray[Any]) -> NDArray[np.uint8]:
    """``floats`` in [0, 1] as uint8; a few rows at a time, which need little memory."""
    pixels = np.empty(floats.shape, np.uint8)
    for top in range(0, len(floats), _ROWS):
        pixels[top : top + _ROWS] = np.rint(floats[top : top + _ROWS].astype(np.float32) * _BRIGHTEST)
    return pixels


def check_size(size: tuple[int, int], limit: int) -> None:
    """Raise ``ImageError`` unless ``size``, width and height, has 1 to ``limit`` pixels."""
    width, height = size
    if 0 in size:
        raise ImageError("it has no pixels.")
    if max(size) > _SIDE:  # a line has a cost of its own: a column of 16 million pixels needs 0.2 GiB
        raise ImageError(f"it has {width} × {height} pixels; a side has at most {_SIDE:,}.")
    if width * height > limit:
        raise ImageError(f"it has {width} × {height} pixels; at most {limit:,} are looked at.")
