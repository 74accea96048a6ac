"""The one way that images come in: whatever is given becomes RGB views, frame by frame."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import count

import numpy as np
from PIL import Image

from safelight.concurrency.deadline import Deadline
from safelight.errors import ImageError, SafelightError, first_line
from safelight.images.colours import is_table
from safelight.images.limits import ImageLimits
from safelight.images.source import Source, check_size, from_array, opened, read_encoded
from safelight.images.views import Views, bands

_LIMITS = ImageLimits()
_DIGESTS = ("sha256", "md5")
# Bringing these to sRGB takes two to four times as long as red, green and blue.
_SLOW_MODES = ("CMYK", "LAB")


def open_image(
    source: Source, limits: ImageLimits = _LIMITS, deadline: Deadline | None = None
) -> Iterator[Image.Image]:
    """Yield all that the image can be seen as, in RGB, each decoded when it is asked for: every frame or
    page, as viewers show it and, where that differs, as it is stored.

    Viewers turn an image as its EXIF says, bring its colours to sRGB and put what is transparent over white
    or black, and programs that read pixels do not. Whoever hides something in one reading is seen in another.
    What was seen already in an earlier frame is left out. ``info`` has the number of the "frame" and, of an
    image that was read from bytes, their "sha256" and "md5" in hex; nothing else.

    A frame that can be seen in several ways is reduced to a whole fraction of its size where its views would
    have more pixels together than ``limits`` allow: each pixel of such a view is the mean of the pixels that
    it stands for, as they are shown, so nothing is left out.

    Raises ``ImageError`` for what cannot be read, or is larger than ``limits``, and what ``deadline`` raises
    once it has passed, which is checked between frames, views and parts of them.
    """
    deadline = deadline or Deadline()
    with _reported():
        digests: dict[str | tuple[int, int], str] = {}
        if isinstance(source, Image.Image):
            image = source
        elif isinstance(source, np.ndarray):
            image = from_array(source, limits.pixels)
        else:
            encoded = read_encoded(source, limits.encoded_bytes)
            digests = {name: _digest(name, encoded) for name in _DIGESTS}
            image = opened(encoded, limits)
            del encoded
        with _at_its_frame(image) if image is source else nullcontext():
            for number, view in _distinct(_views(image, limits, deadline)):
                view.info = {"frame": number, **digests}
                yield view
                del view  # it may be large: it is the caller's now


@contextmanager
def _reported() -> Iterator[None]:
    """Damaged files fail in every way there is: all of them come out as one kind."""
    try:
        yield
    except SafelightError:
        raise
    except Exception as error:
        said = first_line(error) or "it is damaged"
        raise ImageError(f"it cannot be read as an image ({type(error).__name__}: {said}).") from error


@contextmanager
def _at_its_frame(image: Image.Image) -> Iterator[None]:
    """Leaves an image that the caller has opened as it was."""
    at = image.tell()
    try:
        yield
    finally:
        image.seek(at)


def _distinct(views: Iterator[tuple[int, Image.Image]]) -> Iterator[tuple[int, Image.Image]]:
    """Leave out what was there before. The first view is held until there is a second, and only then hashed:
    most images can be seen as one thing only.
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
    """A hash of its pixels, of a part at a time, so that there is never a copy of them all."""
    digest = hashlib.sha256(f"{view.size}".encode())
    for part in bands(view.size):
        digest.update(view.crop(part).tobytes())
    return digest.digest()


def _digest(name: str, encoded: bytes) -> str:
    return hashlib.new(name, encoded, usedforsecurity=False).hexdigest()


def _views(image: Image.Image, limits: ImageLimits, deadline: Deadline) -> Iterator[tuple[int, Image.Image]]:
    """Every view of every frame, with the number of the frame."""
    views = Views(limits, deadline)
    for number, frame in enumerate(_frames(image, limits, deadline)):
        for view in views.of(frame):
            yield number, view
            del view


def _weight(image: Image.Image) -> int:
    """How often each pixel counts: twice where its colours take long."""
    slow = image.mode in _SLOW_MODES or is_table(image.info.get("icc_profile"))
    return 2 if slow else 1


def _frames(image: Image.Image, limits: ImageLimits, deadline: Deadline) -> Iterator[Image.Image]:
    """One after the other. Nobody asks how many there are: for some formats that takes longer than to look at
    a thousand.
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
