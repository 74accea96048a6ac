"""The views of a frame: rotated or not, in stored or displayed colours, on a white or black background."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from safelight.concurrency.deadline import Deadline
from safelight.errors import ImageError
from safelight.images.colours import Profiles, gamma_correction
from safelight.images.limits import ImageLimits

_SIXTEEN_BITS, _EIGHT_BITS = 65535, 255
# The usual maxima of the values of 32-bit images, and the value that replaces infinity.
_RANGES = {"I": (_EIGHT_BITS, _SIXTEEN_BITS), "F": (1, _EIGHT_BITS, _SIXTEEN_BITS)}
_INFINITY_VALUE = 1e30
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
# A frame is processed in bands of about this many pixels, so that intermediate results need little memory and
# deadlines are checked often.
_BAND = 1 << 18
# Views are not reduced below this, since filters use up to 640 × 640 pixels.
_MIN_PIXELS = 640 * 640
# The limit on views per frame, on average: a partly transparent frame has three.
_MAX_VIEWS_PER_FRAME = 3

Conversion = Callable[[Image.Image], Image.Image]
Box = tuple[int, int, int, int]


def bands(size: tuple[int, int], step: int = 1) -> Iterator[Box]:
    """Yield boxes that cover an image of ``size`` from top to bottom, in multiples of ``step`` rows."""
    width, height = size
    rows = max(_BAND // width // step, 1) * step
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way to interpret the values of a frame: conversion to 8 bits, then a colour conversion."""

    depth: Conversion
    colour: Conversion
    as_stored: bool


class Views:
    """Creates the views of frame after frame, within ``limits`` for all of them together."""

    def __init__(self, limits: ImageLimits, deadline: Deadline) -> None:
        self._limits = limits
        self._pixels_left, self._views_left = limits.pixels_of_all, _MAX_VIEWS_PER_FRAME * limits.frames
        self._deadline = deadline
        self._profiles = Profiles()

    def of(self, frame: Image.Image) -> Iterator[Image.Image]:
        """Yield the views of a frame as new RGB images; the first is what a viewer shows."""
        frame.load()
        self._deadline.check()
        turn, transparent = _exif_transposition(frame), _is_transparent(frame)
        readings = list(self._readings(frame, transparent))
        ways = len(readings) + (sum(each.as_stored for each in readings) if turn is not None else 0)
        step = self._step(frame.size, ways * (3 if transparent else 1))
        for reading in readings:
            for view in self._backgrounds(frame, reading, step, transparent):
                self._deadline.check()
                yield view if turn is None else view.transpose(turn)
                if turn is not None and reading.as_stored:
                    yield view

    def _step(self, size: tuple[int, int], count: int) -> int:
        """Return the factor by which ``count`` views must be reduced to fit into the limits."""
        self._views_left -= count
        if self._views_left < 0:
            raise ImageError(
                f"its frames have more than {_MAX_VIEWS_PER_FRAME * self._limits.frames:,} views."
            )
        step = 1
        while (pixels := _reduced_pixels(size, step)) * count > self._pixels_left:
            step += 1
            if _reduced_pixels(size, step) < _MIN_PIXELS:
                limit = self._limits.pixels_of_all
                raise ImageError(f"its views have more than {limit:,} pixels together.")
        self._pixels_left -= pixels * count
        return step

    def _readings(self, frame: Image.Image, transparent: bool) -> Iterator[_Reading]:
        """Yield the interpretations of a frame as viewers display its colours, then as they are stored."""
        for depth in _depth_conversions(frame):
            mode = "RGBA" if transparent else "L" if _is_deep(frame) else frame.mode
            coloured = self._profiles.conversion(frame.info.get("icc_profile"), mode)
            if coloured is not None:
                yield _Reading(depth, coloured, False)
                if mode == "LAB":  # its stored values cannot be shown as RGB
                    continue
            if (brightened := gamma_correction(frame.info.get("gamma"))) is not None:
                yield _Reading(depth, brightened, False)
            yield _Reading(depth, _unchanged, True)

    def _backgrounds(
        self, frame: Image.Image, reading: _Reading, step: int, transparent: bool
    ) -> Iterator[Image.Image]:
        """Yield the colours without transparency and, for transparent frames, on white and on black."""
        size = _reduced(frame.size, step)
        colours, layered = Image.new("RGB", size), Image.new("RGBa", size) if transparent else None
        for box in bands(frame.size, step):
            self._deadline.check()
            piece, place = reading.depth(frame.crop(box)), (0, box[1] // step)
            piece = reading.colour(piece if layered is None else _in_mode(piece, "RGBA"))
            colours.paste(_reduce(_in_mode(piece, "RGB"), step), place)
            if layered is not None:
                layered.paste(_reduce(piece.convert("RGBa"), step), place)
        yield colours
        if layered is not None:
            yield from _on_white_and_black(layered)


def _on_white_and_black(layered: Image.Image) -> Iterator[Image.Image]:
    """Yield an image with premultiplied alpha (RGBa) on a white and on a black background.

    Premultiplied colours are those on black; on white, the inverse of the opacity is added.
    """
    *bands_of_colour, opacity = layered.split()
    black, light = Image.merge("RGB", bands_of_colour), ImageChops.invert(opacity)
    yield ImageChops.add(black, Image.merge("RGB", [light] * 3))
    yield black


def _reduce(piece: Image.Image, step: int) -> Image.Image:
    """Reduce a piece by averaging after its colours were converted.

    Since no pixel is skipped, a pattern cannot look different at full size and in the reduced view.
    """
    return piece.reduce(step) if step > 1 else piece


def _reduced(size: tuple[int, int], step: int) -> tuple[int, int]:
    return math.ceil(size[0] / step), math.ceil(size[1] / step)


def _reduced_pixels(size: tuple[int, int], step: int) -> int:
    return math.prod(_reduced(size, step))


def _unchanged(piece: Image.Image) -> Image.Image:
    return piece


def _in_mode(piece: Image.Image, mode: str) -> Image.Image:
    """Convert only if necessary, since Pillow would make a copy."""
    return piece if piece.mode == mode else piece.convert(mode)


def _is_deep(frame: Image.Image) -> bool:
    return frame.mode.startswith("I;16") or frame.mode in _RANGES


def _is_transparent(frame: Image.Image) -> bool:
    """Return whether any pixel may be transparent, which an opaque alpha channel rules out."""
    if _is_deep(frame) or not frame.has_transparency_data:
        return False
    return not (frame.mode in ("RGBA", "LA") and frame.getchannel("A").getextrema() == (255, 255))


def _exif_transposition(frame: Image.Image) -> Image.Transpose | None:
    """Return the transposition by the frame's EXIF orientation; damaged EXIF is ignored, as by viewers."""
    try:
        return _TURNS.get(frame.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - Pillow's parser fails in many ways
        return None


def _depth_conversions(image: Image.Image) -> Iterator[Conversion]:
    """Yield conversions to 8 bits: deeper greys are scaled, and also clipped if their range is unusual.

    Pillow alone would always clip them at 255.
    """
    if not _is_deep(image):
        yield _unchanged
        return
    if image.mode.startswith("I;16"):
        values = np.arange(_SIXTEEN_BITS + 1)
        table = ((values * _EIGHT_BITS + _SIXTEEN_BITS // 2) // _SIXTEEN_BITS).astype(np.uint8)
        yield lambda piece: Image.fromarray(table[np.asarray(piece)])
        return
    darkest, lightest = _range(image)
    known = [top for top in _RANGES[image.mode] if darkest >= 0 and lightest <= top]
    yield _scaling(0, known[0]) if known else _scaling(darkest, lightest)
    if not known:
        yield _scaling(0, _EIGHT_BITS)


def _range(image: Image.Image) -> tuple[float, float]:
    low, high = math.inf, -math.inf
    for box in bands(image.size):
        grey = _finite(image.crop(box))
        low, high = min(low, float(grey.min())), max(high, float(grey.max()))
    return low, high


def _finite(image: Image.Image) -> NDArray[np.float32]:
    grey: NDArray[np.float32] = np.nan_to_num(
        np.asarray(image, np.float32), posinf=_INFINITY_VALUE, neginf=-_INFINITY_VALUE
    )
    return grey


def _scaling(darkest: float, lightest: float) -> Conversion:
    def scale(piece: Image.Image) -> Image.Image:
        grey = _finite(piece)
        shares = (grey.clip(darkest, lightest) - darkest) / max(lightest - darkest, 1e-12)
        return Image.fromarray(np.rint(shares * _EIGHT_BITS).astype(np.uint8))

    return scale
