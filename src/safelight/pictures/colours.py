"""Colours brought to what displays show: by the colour profile of an image, or by its gamma."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageCms

from safelight.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable

_EIGHT_BITS = 255
# The exponent of displays, and how far a file's may be from it without being seen.
_DISPLAY, _SLIGHT = 2.2, 0.02
# The profiles of presses have 0.5 to 3 MiB; the time to ready one grows with its size.
_PROFILE_BYTES = 1 << 22
# Readying a profile takes up to 0.1 s. The pages of a document share one.
_PROFILES = 8
# Chains of arithmetic ("multiProcessElements") as long as the file likes, which browsers do not read either.
_CHAIN = re.compile(rb"mpet\0\0\0\0")


class Profiles:
    """The colour profiles of one image file, each of them readied once."""

    def __init__(self) -> None:
        self._changes: dict[tuple[bytes, str], Callable[[Image.Image], Image.Image] | None] = {}

    def change(self, frame: Image.Image, mode: str) -> Callable[[Image.Image], Image.Image] | None:
        """What brings pieces of the frame, in ``mode``, to sRGB; None without a sound profile.

        Raises ``ImageError`` for a profile that would take too long, or for too many.
        """
        profile = frame.info.get("icc_profile")
        if mode == "LAB" and not profile:
            profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
        if not profile:
            return None
        return self._readied(profile, "RGB" if _has_alpha(frame, mode) else mode)

    def _readied(self, profile: Any, mode: str) -> Callable[[Image.Image], Image.Image] | None:
        if not isinstance(profile, bytes):
            return None
        if len(profile) > _PROFILE_BYTES or _CHAIN.search(profile):
            raise ImageError("its colour profile takes too long to apply; save it with sRGB.")
        if (profile, mode) not in self._changes:
            if len(self._changes) == _PROFILES:
                raise ImageError(f"it has more than {_PROFILES} colour profiles.")
            self._changes[profile, mode] = _to_srgb(profile, mode)
        return self._changes[profile, mode]


def _has_alpha(frame: Image.Image, mode: str) -> bool:
    """Whether pieces of the frame come as RGB whose opacity was taken off, or with a palette."""
    return mode == "P" or (mode == frame.mode and frame.has_transparency_data)


def _to_srgb(profile: bytes, mode: str) -> Callable[[Image.Image], Image.Image] | None:
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        # A profile for another kind of colours than the image has, or a damaged one.
        return None

    def change(piece: Image.Image) -> Image.Image:
        changed = ImageCms.applyTransform(piece if piece.mode == mode else piece.convert(mode), transform)
        assert changed is not None  # it is, unless the piece itself is changed
        return changed

    return change


def gamma_change(gamma: Any) -> Callable[[Image.Image], Image.Image] | None:
    """As browsers show a PNG with a gAMA chunk: each value to the power of 1 / (gamma · 2.2)."""
    if not gamma or abs(gamma * _DISPLAY - 1) <= _SLIGHT:
        return None
    table = [round(_EIGHT_BITS * (value / _EIGHT_BITS) ** (1 / (gamma * _DISPLAY))) for value in range(256)]
    return lambda piece: piece.convert("RGB").point(table * 3)
