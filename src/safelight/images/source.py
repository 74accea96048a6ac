"""The sources of images: PIL images, arrays, and encoded bytes or files."""

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
"""A PIL image; encoded bytes, or a file with them, as a path or opened in binary mode; or an array (H, W),
(H, W, 3) or (H, W, 4), of uint8 or of floats in [0, 1]."""

# The formats that browsers and phones show; JPEG files with several images (MPO) are read as JPEG. Pillow
# supports more formats, some of them by running other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
SUFFIXES = frozenset(
    {".apng", ".avif", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg"}
    | {".mpo", ".png", ".tif", ".tiff", ".webp"}
)
_CHANNELS = (3, 4)
_BRIGHTEST = 255
_MAX_SIDE = 1 << 16  # the longest side of an image, as in JPEG and GIF
_ROWS = 256  # the number of rows of an array of floats that are converted at a time


def images_in(folder: Path) -> list[Path]:
    """Return all images below a folder, by their suffixes, sorted by path."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def open_encoded(encoded: bytes, limits: ImageLimits) -> Image.Image:
    """Return the image in ``encoded``, not decoded yet."""
    check_container(encoded, limits)
    try:
        return Image.open(io.BytesIO(encoded), formats=_FORMATS)
    except UnidentifiedImageError:
        raise ImageError(
            f"it cannot be read as an image; supported formats are {', '.join(_FORMATS)}."
        ) from None


def read_encoded(source: Any, limit: int) -> bytes:
    """Return the bytes of a file, however it is given. Raises ``ImageError`` for more than ``limit``."""
    if isinstance(source, str | os.PathLike):
        encoded = _read(Path(source), limit)
    elif isinstance(source, bytes | bytearray | memoryview):
        encoded = bytes(source[: limit + 1])
    elif callable(getattr(source, "read", None)):
        encoded = source.read(limit + 1)
    else:
        raise ImageError(f"{type(source).__name__} is not an image; give a PIL image, a file or its bytes.")
    if not isinstance(encoded, bytes):
        raise ImageError("the file is opened in text mode; open it in binary mode.")
    if not encoded:
        raise ImageError("it is empty.")
    if len(encoded) > limit:
        raise ImageError(f"it is larger than {limit:,} bytes.")
    return encoded


def _read(path: Path, limit: int) -> bytes:
    try:
        # Opening a pipe or a device could block forever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ImageError("it is not a regular file.")
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise ImageError(f"it cannot be read: {error.strerror or error}.") from error


def from_array(array: NDArray[Any], limit: int) -> Image.Image:
    """Return an array as an image. Raises ``ImageError`` for more than ``limit`` pixels."""
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS)
    if not shaped or 0 in array.shape:
        raise ImageError(f"an array of shape {array.shape} is not an image; give (height, width, 3).")
    check_size((array.shape[1], array.shape[0]), limit)
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):
            raise ImageError("an array of floats must be in [0, 1].")
        array = _in_bytes(array)
    if array.dtype != np.uint8:
        raise ImageError(f"an array of {array.dtype} is not an image; give uint8 or floats in [0, 1].")
    return Image.fromarray(np.ascontiguousarray(array))


def _in_bytes(floats: NDArray[Any]) -> NDArray[np.uint8]:
    """Return floats in [0, 1] as uint8, converted a few rows at a time to save memory."""
    pixels = np.empty(floats.shape, np.uint8)
    for top in range(0, len(floats), _ROWS):
        pixels[top : top + _ROWS] = np.rint(floats[top : top + _ROWS].astype(np.float32) * _BRIGHTEST)
    return pixels


def check_size(size: tuple[int, int], limit: int) -> None:
    """Raise ``ImageError`` unless ``size``, width and height, has 1 to ``limit`` pixels."""
    width, height = size
    if 0 in size:
        raise ImageError("it has no pixels.")
    if max(size) > _MAX_SIDE:  # each row has its own overhead: a column of 16 million pixels needs 0.2 GiB
        raise ImageError(f"it has {width} × {height} pixels; a side has at most {_MAX_SIDE:,}.")
    if width * height > limit:
        raise ImageError(f"it has {width} × {height} pixels; the limit is {limit:,}.")
