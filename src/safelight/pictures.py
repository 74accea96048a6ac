"""The one way that pictures come in: whatever is given becomes RGB as a viewer shows it, frame by frame."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from safelight.errors import ImageError

Source = Image.Image | NDArray[Any] | bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO
"""A picture; encoded bytes, or a file that has them, by its path or opened; or an array (H, W), (H, W, 3)
or (H, W, 4), of uint8 or of floats in [0, 1]."""

# What browsers and phones show; JPEG with several pictures in it (MPO) comes as JPEG. Pillow reads more,
# some of it by running other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
SUFFIXES = frozenset({".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"})
_CHANNELS = (3, 4)
_SIXTEEN_BITS, _EIGHT_BITS = 65535, 255


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """The most that is decoded: bytes of a file, pixels of a frame, frames, and pixels of all frames."""

    encoded_bytes: int = 1 << 26
    pixels: int = 1 << 26
    frames: int = 1000
    pixels_of_all: int = 1 << 29


_LIMITS = PictureLimits()
_DIGESTS = ("sha256", "md5")


def open_picture(source: Source, limits: PictureLimits = _LIMITS) -> Iterator[Image.Image]:
    """Every frame or page of the picture, each decoded when it is asked for, in RGB.

    The orientation of EXIF is applied, colours are brought to sRGB. A frame with transparency comes twice,
    over white and over black: what would be hidden on one shows on the other. ``info`` has the number of the
    "frame" and, of a picture that was read from bytes, their "sha256" and "md5" in hex; nothing else.

    Raises ``ImageError`` for what cannot be read, or is larger than ``limits``.
    """
    with _reported():
        digests: dict[str | tuple[int, int], str] = {}
        if not isinstance(source, Image.Image | np.ndarray):
            encoded = _encoded(source, limits.encoded_bytes)
            digests = {name: _digest(name, encoded) for name in _DIGESTS}
            source = _opened(encoded)
        image = source if isinstance(source, Image.Image) else _from_array(source)
        for number, frame in enumerate(_frames(image, limits)):
            for view in _views(frame):
                view.info = {"frame": number, **digests}
                yield view


@contextmanager
def _reported() -> Iterator[None]:
    """Damaged files fail in every way there is: all of them come out as one kind."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        said = str(error).strip().split("\n")[0] or "it is damaged"
        raise ImageError(f"it cannot be read as a picture ({type(error).__name__}: {said}).") from error


def _digest(name: str, encoded: bytes) -> str:
    return hashlib.new(name, encoded, usedforsecurity=False).hexdigest()


def _opened(encoded: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(encoded), formats=_FORMATS)
    except UnidentifiedImageError:
        raise ImageError(f"it cannot be read as a picture; {', '.join(_FORMATS)} can.") from None


def _encoded(source: Any, limit: int) -> bytes:
    if isinstance(source, str | os.PathLike):
        encoded = _read(Path(source), limit)
    elif isinstance(source, bytes | bytearray | memoryview):
        encoded = bytes(source[: limit + 1])
    elif callable(getattr(source, "read", None)):
        encoded = source.read(limit + 1)
    else:
        raise ImageError(f"{type(source).__name__} is no picture; give a PIL picture, a file or its bytes.")
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


def _from_array(array: NDArray[Any]) -> Image.Image:
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS)
    if not shaped or 0 in array.shape:
        raise ImageError(f"an array of shape {array.shape} is no picture; give (height, width, 3).")
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):
            raise ImageError("an array of floats must be in [0, 1].")
        array = np.rint(array.astype(np.float32) * _EIGHT_BITS).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ImageError(f"an array of {array.dtype} is no picture; give uint8 or floats in [0, 1].")
    return Image.fromarray(np.ascontiguousarray(array))


def _frames(image: Image.Image, limits: PictureLimits) -> Iterator[Image.Image]:
    """Copies of all frames; the picture itself is left as it was."""
    count = getattr(image, "n_frames", 1)
    if count > limits.frames:
        raise ImageError(f"it has more than {limits.frames:,} frames.")
    _check_size(image, limits.pixels)
    if count == 1:
        yield image
        return
    at, total = image.tell(), 0
    try:
        for number in range(count):
            image.seek(number)
            _check_size(image, limits.pixels)
            total += image.width * image.height
            if total > limits.pixels_of_all:
                raise ImageError(f"its frames have more than {limits.pixels_of_all:,} pixels together.")
            yield image.copy()
    finally:
        image.seek(at)


def _check_size(image: Image.Image, limit: int) -> None:
    if 0 in image.size:
        raise ImageError("it has no pixels.")
    if image.width * image.height > limit:
        raise ImageError(f"it has {image.width} × {image.height} pixels; at most {limit:,} are looked at.")


def _views(frame: Image.Image) -> Iterator[Image.Image]:
    """RGB pictures that share no pixels with ``frame``."""
    profile = frame.info.get("icc_profile")
    upright = _eight_bits(_upright(frame))
    if not upright.has_transparency_data:
        yield _standard_colours(upright, profile)
        return
    layered = upright.convert("RGBA")
    colours, alpha = _standard_colours(layered.convert("RGB"), profile), layered.getchannel("A")
    if alpha.getextrema() == (_EIGHT_BITS, _EIGHT_BITS):
        yield colours
        return
    for ground in ("white", "black"):
        view = Image.new("RGB", colours.size, ground)
        view.paste(colours, mask=alpha)
        yield view


def _upright(frame: Image.Image) -> Image.Image:
    """A copy, turned as its EXIF says; viewers ignore EXIF that is damaged."""
    frame.load()
    try:
        return ImageOps.exif_transpose(frame)
    except Exception:  # noqa: BLE001 - Pillow's parser fails in many ways
        return frame.copy()


def _eight_bits(image: Image.Image) -> Image.Image:
    """Deeper greys would be cut off at 255 by Pillow."""
    if not image.mode.startswith(("I", "F")):
        return image
    grey = np.nan_to_num(np.asarray(image, np.float64))
    darkest, lightest = grey.min(), grey.max()
    if image.mode.startswith("I;16"):
        darkest, lightest = 0, _SIXTEEN_BITS
    elif darkest >= 0 and lightest <= 1 and image.mode == "F":
        darkest, lightest = 0, 1
    elif darkest >= 0 and lightest <= _EIGHT_BITS:
        darkest, lightest = 0, _EIGHT_BITS
    elif darkest >= 0 and lightest <= _SIXTEEN_BITS:
        darkest, lightest = 0, _SIXTEEN_BITS
    scaled = (grey - darkest) / max(lightest - darkest, 1e-12) * _EIGHT_BITS
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _standard_colours(image: Image.Image, profile: Any) -> Image.Image:
    """In sRGB, by the colour profile that came with the picture if it has a sound one."""
    if image.mode == "LAB" and not profile:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    if profile:
        try:
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            standard = ImageCms.createProfile("sRGB")
            changed = ImageCms.profileToProfile(image, own, standard, outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            # A profile for another kind of colours than the picture has, or a damaged one.
            return image.convert("RGB")
        if changed is not None:
            return changed
    return image if image.mode == "RGB" else image.convert("RGB")
