"""The one way that pictures come in: whatever is given becomes RGB as a viewer shows it, frame by frame."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from safelight.deadline import Deadline
from safelight.errors import DeadlineError, ImageError, RequestCancelledError, first_line

Source = Image.Image | NDArray[Any] | bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO
"""A picture; encoded bytes, or a file that has them, by its path or opened; or an array (H, W), (H, W, 3)
or (H, W, 4), of uint8 or of floats in [0, 1]."""

# What browsers and phones show; JPEG with several pictures in it (MPO) comes as JPEG. Pillow reads more,
# some of it by running other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
SUFFIXES = frozenset(
    {".apng", ".avif", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg"}
    | {".mpo", ".png", ".tif", ".tiff", ".webp"}
)
_CHANNELS = (3, 4)
_SIXTEEN_BITS, _EIGHT_BITS = 65535, 255
# What values of pictures in 32 bits usually go up to, and what infinity is taken for.
_RANGES = {"I": (_EIGHT_BITS, _SIXTEEN_BITS), "F": (1, _EIGHT_BITS, _SIXTEEN_BITS)}
_FAR = 1e30
# The exponent of displays, and how far a file's may be from it without being seen.
_DISPLAY, _SLIGHT = 2.2, 0.02
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """The most that is decoded: bytes of a file, pixels of a frame, frames, and pixels of all frames."""

    encoded_bytes: int = 1 << 26
    pixels: int = 1 << 26
    frames: int = 1000
    pixels_of_all: int = 1 << 29


_LIMITS = PictureLimits()
_DIGESTS = ("sha256", "md5")


def open_picture(
    source: Source, limits: PictureLimits = _LIMITS, deadline: Deadline | None = None
) -> Iterator[Image.Image]:
    """All that the picture can be seen as, in RGB, each decoded when it is asked for: every frame or page, as
    viewers show it and, where that differs, as it is stored.

    Viewers turn a picture as its EXIF says, bring its colours to sRGB and put what is transparent over white
    or black, and programs that read pixels do not. Whoever hides something in one reading is seen in another.
    What was seen already in an earlier frame is left out. ``info`` has the number of the "frame" and, of a
    picture that was read from bytes, their "sha256" and "md5" in hex; nothing else.

    Raises ``ImageError`` for what cannot be read, or is larger than ``limits``, and ``DeadlineError`` or
    ``RequestCancelledError`` once the request has no time left.
    """
    with _reported():
        digests: dict[str | tuple[int, int], str] = {}
        if not isinstance(source, Image.Image | np.ndarray):
            encoded = _encoded(source, limits.encoded_bytes)
            digests = {name: _digest(name, encoded) for name in _DIGESTS}
            source = _opened(encoded)
        image = source if isinstance(source, Image.Image) else _from_array(source)
        frames = enumerate(_frames(image, limits))
        for number, view in _distinct((number, view) for number, frame in frames for view in _views(frame)):
            if deadline:
                deadline.check()
            view.info = {"frame": number, **digests}
            yield view


@contextmanager
def _reported() -> Iterator[None]:
    """Damaged files fail in every way there is: all of them come out as one kind."""
    try:
        yield
    except (ImageError, DeadlineError, RequestCancelledError):
        raise
    except Exception as error:
        said = first_line(error) or "it is damaged"
        raise ImageError(f"it cannot be read as a picture ({type(error).__name__}: {said}).") from error


def _distinct(views: Iterator[tuple[int, Image.Image]]) -> Iterator[tuple[int, Image.Image]]:
    """Without what was there before; the first is held, and hashed only once there is a second: hashing
    takes as long as decoding, and most pictures can be seen as one thing only.
    """
    first, seen = next(views), set[bytes]()
    yield first
    for number, view in views:
        seen = seen or {_fingerprint(first[1])}
        if (key := _fingerprint(view)) not in seen:
            seen.add(key)
            yield number, view


def _fingerprint(view: Image.Image) -> bytes:
    return hashlib.blake2b(f"{view.size}".encode() + view.tobytes(), digest_size=16).digest()


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
    """One after the other; the picture itself is left as it was.

    Nobody asks how many there are: for some formats that takes longer than to look at a thousand.
    """
    at, total = image.tell(), 0
    try:
        for number in count():
            try:
                image.seek(number)
            except EOFError:
                return
            if number == limits.frames:
                raise ImageError(f"it has more than {limits.frames:,} frames.")
            _check_size(image, limits.pixels)
            total += image.width * image.height
            if total > limits.pixels_of_all:
                raise ImageError(f"its frames have more than {limits.pixels_of_all:,} pixels together.")
            yield image
    finally:
        image.seek(at)


def _check_size(image: Image.Image, limit: int) -> None:
    if 0 in image.size:
        raise ImageError("it has no pixels.")
    if image.width * image.height > limit:
        raise ImageError(f"it has {image.width} × {image.height} pixels; at most {limit:,} are looked at.")


def _views(frame: Image.Image) -> Iterator[Image.Image]:
    """RGB pictures that share no pixels with ``frame``."""
    frame.load()
    for reading in _readings(frame):
        if not reading.has_transparency_data:
            yield reading.convert("RGB")
            continue
        layered = reading.convert("RGBA")
        colours, alpha = layered.convert("RGB"), layered.getchannel("A")
        yield colours
        for ground in ("white", "black"):
            view = Image.new("RGB", colours.size, ground)
            view.paste(colours, mask=alpha)
            yield view


def _readings(frame: Image.Image) -> Iterator[Image.Image]:
    """The frame as viewers turn and colour it, then as it is stored."""
    profile, gamma = frame.info.get("icc_profile"), frame.info.get("gamma")
    for plain in _eight_bits(frame):
        upright = _upright(plain, frame)
        coloured = _standard_colours(upright, profile)
        if coloured is not None:
            yield coloured
            if plain.mode == "LAB":  # as it is stored it is no picture
                continue
        if gamma and abs(gamma * _DISPLAY - 1) > _SLIGHT:
            yield _with_gamma(upright, gamma)
        yield upright
        if upright is not plain:
            yield plain


def _upright(plain: Image.Image, frame: Image.Image) -> Image.Image:
    """Turned as the frame's EXIF says; viewers ignore EXIF that is damaged."""
    try:
        method = _TURNS.get(frame.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - Pillow's parser fails in many ways
        method = None
    return plain.transpose(method) if method is not None else plain


def _eight_bits(image: Image.Image) -> Iterator[Image.Image]:
    """Deeper greys, which Pillow would cut off at 255, are scaled; and cut where their range is unusual."""
    if image.mode.startswith("I;16"):
        table = ((np.arange(_SIXTEEN_BITS + 1) * _EIGHT_BITS + _SIXTEEN_BITS // 2) // _SIXTEEN_BITS).astype(
            np.uint8
        )
        yield Image.fromarray(table[np.asarray(image)])
    elif image.mode not in ("I", "F"):
        yield image
    else:
        grey = np.nan_to_num(np.asarray(image, np.float32), posinf=_FAR, neginf=-_FAR)
        darkest, lightest = float(grey.min()), float(grey.max())
        known = [top for top in _RANGES[image.mode] if darkest >= 0 and lightest <= top]
        yield _scaled(grey, 0, known[0]) if known else _scaled(grey, darkest, lightest)
        if not known:
            yield _scaled(grey, 0, _EIGHT_BITS)


def _scaled(grey: NDArray[np.float32], darkest: float, lightest: float) -> Image.Image:
    shares = (grey.clip(darkest, lightest) - darkest) / max(lightest - darkest, 1e-12)
    return Image.fromarray(np.rint(shares * _EIGHT_BITS).astype(np.uint8))


def _standard_colours(image: Image.Image, profile: Any) -> Image.Image | None:
    """In sRGB, by the colour profile that came with the picture; None without a sound one."""
    if image.mode == "LAB" and not profile:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    if not profile:
        return None
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = partial(
            ImageCms.profileToProfile,
            inputProfile=own,
            outputProfile=ImageCms.createProfile("sRGB"),
            outputMode="RGB",
        )
        return _recoloured(image, transform)
    except (ImageCms.PyCMSError, OSError, ValueError):
        # A profile for another kind of colours than the picture has, or a damaged one.
        return None


def _with_gamma(image: Image.Image, gamma: float) -> Image.Image:
    """As browsers show a PNG with a gAMA chunk: each value to the power of 1 / (gamma · 2.2)."""
    table = [round(_EIGHT_BITS * (value / _EIGHT_BITS) ** (1 / (gamma * _DISPLAY))) for value in range(256)]
    return _recoloured(image, lambda colours: colours.convert("RGB").point(table * 3))


def _recoloured(image: Image.Image, change: Callable[[Image.Image], Any]) -> Image.Image:
    """``image`` with ``change`` made to its colours; what is transparent stays so."""
    if not image.has_transparency_data:
        opaque: Image.Image = change(image.convert("RGB") if image.mode == "P" else image)
        return opaque
    layered = image.convert("RGBA")
    changed: Image.Image = change(layered.convert("RGB"))
    changed.putalpha(layered.getchannel("A"))
    return changed
