"""What a frame can be seen as: turned or not, in its own colours or a display's, on white or on black."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from safelight.concurrency.deadline import Deadline
from safelight.errors import ImageError
from safelight.images.colours import Profiles, gamma_change
from safelight.images.limits import ImageLimits

_SIXTEEN_BITS, _EIGHT_BITS = 65535, 255
# What values of images in 32 bits usually go up to, and what infinity is taken for.
_RANGES = {"I": (_EIGHT_BITS, _SIXTEEN_BITS), "F": (1, _EIGHT_BITS, _SIXTEEN_BITS)}
_FAR = 1e30
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
# A frame is worked on in bands of about this many pixels, so that what lies between it and its views needs
# little memory, and a deadline is noticed.
_BAND = 1 << 18
# Views are not reduced below this: filters look at up to 640 × 640 pixels.
_LEAST = 640 * 640
# Views of the most frames allowed: all that are partly transparent can be seen in three ways.
_VIEWS = 3

Change = Callable[[Image.Image], Image.Image]
Box = tuple[int, int, int, int]


def bands(size: tuple[int, int], step: int = 1) -> Iterator[Box]:
    """Boxes that cover an image of ``size`` from top to bottom, in multiples of ``step`` rows."""
    width, height = size
    rows = max(_BAND // width // step, 1) * step
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way to read the values of a frame: first brought to 8 bits, then coloured."""

    depth: Change
    colour: Change
    as_stored: bool


class Views:
    """Makes the views of one frame after the other, within ``limits`` for all of them together."""

    def __init__(self, limits: ImageLimits, deadline: Deadline) -> None:
        self._limits = limits
        self._pixels_left, self._views_left = limits.pixels_of_all, _VIEWS * limits.frames
        self._deadline = deadline
        self._profiles = Profiles()

    def of(self, frame: Image.Image) -> Iterator[Image.Image]:
        """RGB images that share no pixels with ``frame``; the first is what a viewer shows."""
        frame.load()
        self._deadline.check()
        turn, transparent = _turn(frame), _is_transparent(frame)
        readings = list(self._readings(frame, transparent))
        ways = len(readings) + (sum(each.as_stored for each in readings) if turn is not None else 0)
        step = self._step(frame.size, ways * (3 if transparent else 1))
        for reading in readings:
            for view in self._grounds(frame, reading, step, transparent):
                self._deadline.check()
                yield view if turn is None else view.transpose(turn)
                if turn is not None and reading.as_stored:
                    yield view

    def _step(self, size: tuple[int, int], count: int) -> int:
        """How many pixels of the frame, each way, become one of ``count`` views, so that all of them fit."""
        self._views_left -= count
        if self._views_left < 0:
            raise ImageError(f"its frames can be seen in more than {_VIEWS * self._limits.frames:,} ways.")
        step = 1
        while (pixels := _reduced_pixels(size, step)) * count > self._pixels_left:
            step += 1
            if _reduced_pixels(size, step) < _LEAST:
                most = self._limits.pixels_of_all
                raise ImageError(f"all that it can be seen as has more than {most:,} pixels together.")
        self._pixels_left -= pixels * count
        return step

    def _readings(self, frame: Image.Image, transparent: bool) -> Iterator[_Reading]:
        """The frame as viewers colour it, then as it is stored."""
        for depth in _eight_bits(frame):
            mode = "RGBA" if transparent else "L" if _is_deep(frame) else frame.mode
            coloured = self._profiles.change(frame.info.get("icc_profile"), mode)
            if coloured is not None:
                yield _Reading(depth, coloured, False)
                if mode == "LAB":  # as it is stored it is no image
                    continue
            if (brightened := gamma_change(frame.info.get("gamma"))) is not None:
                yield _Reading(depth, brightened, False)
            yield _Reading(depth, _as_it_is, True)

    def _grounds(
        self, frame: Image.Image, reading: _Reading, step: int, transparent: bool
    ) -> Iterator[Image.Image]:
        """The colours alone, and where parts are transparent also on white and on black."""
        size = _reduced(frame.size, step)
        colours, layered = Image.new("RGB", size), Image.new("RGBa", size) if transparent else None
        for box in bands(frame.size, step):
            self._deadline.check()
            piece, place = reading.depth(frame.crop(box)), (0, box[1] // step)
            piece = reading.colour(piece if layered is None else _in_mode(piece, "RGBA"))
            colours.paste(_mean(_in_mode(piece, "RGB"), step), place)
            if layered is not None:
                layered.paste(_mean(piece.convert("RGBa"), step), place)
        yield colours
        if layered is not None:
            yield from _on_white_and_black(layered)


def _on_white_and_black(layered: Image.Image) -> Iterator[Image.Image]:
    """``layered`` has its colours multiplied by its opacity (RGBa), and so is what it looks like on black.
    What lets the ground through adds as much light as the ground has: on white, all of it.
    """
    *bands_of_colour, opacity = layered.split()
    black, light = Image.merge("RGB", bands_of_colour), ImageChops.invert(opacity)
    yield ImageChops.add(black, Image.merge("RGB", [light] * 3))
    yield black


def _mean(piece: Image.Image, step: int) -> Image.Image:
    """Reduced after it was coloured: whatever is seen from afar is its mean, and no pixel is passed over, so
    that no pattern is seen at full size and another one here.
    """
    return piece.reduce(step) if step > 1 else piece


def _reduced(size: tuple[int, int], step: int) -> tuple[int, int]:
    return math.ceil(size[0] / step), math.ceil(size[1] / step)


def _reduced_pixels(size: tuple[int, int], step: int) -> int:
    return math.prod(_reduced(size, step))


def _as_it_is(piece: Image.Image) -> Image.Image:
    return piece


def _in_mode(piece: Image.Image, mode: str) -> Image.Image:
    """Converted only if need be: Pillow would make a copy."""
    return piece if piece.mode == mode else piece.convert(mode)


def _is_deep(frame: Image.Image) -> bool:
    return frame.mode.startswith("I;16") or frame.mode in _RANGES


def _is_transparent(frame: Image.Image) -> bool:
    """Whether any of it may be. An alpha channel that is full everywhere hides nothing."""
    if _is_deep(frame) or not frame.has_transparency_data:
        return False
    return not (frame.mode in ("RGBA", "LA") and frame.getchannel("A").getextrema() == (255, 255))


def _turn(frame: Image.Image) -> Image.Transpose | None:
    """What the frame's EXIF says; viewers ignore EXIF that is damaged."""
    try:
        return _TURNS.get(frame.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - Pillow's parser fails in many ways
        return None


def _eight_bits(image: Image.Image) -> Iterator[Change]:
    """Deeper greys, which Pillow would cut off at 255, are scaled; and cut where their range is unusual."""
    if not _is_deep(image):
        yield _as_it_is
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
    grey: NDArray[np.float32] = np.nan_to_num(np.asarray(image, np.float32), posinf=_FAR, neginf=-_FAR)
    return grey


def _scaling(darkest: float, lightest: float) -> Change:
    def scale(piece: Image.Image) -> Image.Image:
        grey = _finite(piece)
        shares = (grey.clip(darkest, lightest) - darkest) / max(lightest - darkest, 1e-12)
        return Image.fromarray(np.rint(shares * _EIGHT_BITS).astype(np.uint8))

    return scale
