"""Opens images from any source as RGB views, frame by frame."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import count

import numpy as np
from PIL import Image

from safelight.concurrency.deadline import Deadline
from safelight.errors import ImageError, SafelightError, first_line
from safelight.images.colours import is_table_based
from safelight.images.limits import ImageLimits
from safelight.images.source import Source, check_size, from_array, open_encoded, read_encoded
from safelight.images.views import Views, bands

_LIMITS = ImageLimits()
_DIGESTS = ("sha256", "md5")
# Converting these to sRGB takes two to four times as long as converting RGB.
_SLOW_MODES = ("CMYK", "LAB")


def open_image(
    source: Source, limits: ImageLimits = _LIMITS, deadline: Deadline | None = None
) -> Iterator[Image.Image]:
    """Yield all distinct RGB views of an image, each decoded on demand.

    Every frame or page has a view as viewers show it and, where that differs, as it is stored. Viewers rotate
    an image by its EXIF orientation, convert its colours to sRGB and show transparent parts on white or
    black; programs that read pixels do not. Content that is hidden in one of these views is visible in
    another. Views that equal an earlier one are left out. ``info`` has only the number of the "frame" and,
    for an image that was read from bytes, their "sha256" and "md5" in hexadecimal digits.

    If the views of a frame would together have more pixels than ``limits`` allow, they are reduced by an
    integer factor. Each pixel of a reduced view is the mean of the displayed pixels that it replaces, so that
    nothing is skipped.

    Raises ``ImageError`` for an image that cannot be read or exceeds ``limits``, and the errors of
    ``deadline``, which is checked between frames, views and parts of them.
    """
    deadline = deadline or Deadline()
    with _image_errors():
        digests: dict[str | tuple[int, int], str] = {}
        if isinstance(source, Image.Image):
            image = source
        elif isinstance(source, np.ndarray):
            image = from_array(source, limits.pixels)
        else:
            encoded = read_encoded(source, limits.encoded_bytes)
            digests = {name: _digest(name, encoded) for name in _DIGESTS}
            image = open_encoded(encoded, limits)
            del encoded
        with _restored_frame(image) if image is source else nullcontext():
            for number, view in _distinct(_views(image, limits, deadline)):
                view.info = {"frame": number, **digests}
                yield view
                del view  # release a large image as soon as the caller does


@contextmanager
def _image_errors() -> Iterator[None]:
    """Raise ``ImageError`` in place of the many kinds of errors that damaged files cause."""
    try:
        yield
    except SafelightError:
        raise
    except Exception as error:
        message = first_line(error) or "it is damaged"
        raise ImageError(f"it cannot be read as an image ({type(error).__name__}: {message}).") from error


@contextmanager
def _restored_frame(image: Image.Image) -> Iterator[None]:
    """Restore the current frame of an image that the caller opened."""
    at = image.tell()
    try:
        yield
    finally:
        image.seek(at)


def _distinct(views: Iterator[tuple[int, Image.Image]]) -> Iterator[tuple[int, Image.Image]]:
    """Yield the views that differ from all earlier ones.

    The first view is hashed only once there is a second, since most images have only one.
    """
    first: Image.Image | None = None
    seen = set[bytes]()
    for number, view in views:
        if first is None and not seen:
            first = view
            yield number, view
            continue
        if first is not None:
            seen, first = {_fingerprint(first)}, None
        if (key := _fingerprint(view)) not in seen:
            seen.add(key)
            yield number, view
        del view


def _fingerprint(view: Image.Image) -> bytes:
    """Return a hash of the pixels of a view, computed in bands to avoid a copy of all pixels."""
    digest = hashlib.sha256(f"{view.size}".encode())
    for part in bands(view.size):
        digest.update(view.crop(part).tobytes())
    return digest.digest()


def _digest(name: str, encoded: bytes) -> str:
    return hashlib.new(name, encoded, usedforsecurity=False).hexdigest()


def _views(image: Image.Image, limits: ImageLimits, deadline: Deadline) -> Iterator[tuple[int, Image.Image]]:
    """Yield every view of every frame, with the number of the frame."""
    views = Views(limits, deadline)
    for number, frame in enumerate(_frames(image, limits, deadline)):
        for view in views.of(frame):
            yield number, view
            del view


def _weight(image: Image.Image) -> int:
    """Return the weight of each pixel in the limits: 2 if its colours are slow to convert."""
    slow = image.mode in _SLOW_MODES or is_table_based(image.info.get("icc_profile"))
    return 2 if slow else 1


def _frames(image: Image.Image, limits: ImageLimits, deadline: Deadline) -> Iterator[Image.Image]:
    """Yield the frames of an image.

    Their number is not queried, because for some formats that takes longer than decoding a thousand frames.
    """
    total = 0
    for number in count():
        deadline.check()
        try:
            image.seek(number)
        except EOFError:
            return
        if number == limits.frames:
            raise ImageError(f"it has more than {limits.frames:,} frames.")
        weight = _weight(image)
        check_size(image.size, limits.pixels // weight)
        total += image.width * image.height * weight
        if total > limits.pixels_of_all:
            raise ImageError(f"its frames have more than {limits.pixels_of_all:,} pixels together.")
        yield image
