"""Converts the colours of images to sRGB, by their ICC profile or their gamma."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from PIL import Image, ImageCms

from safelight.errors import ImageError

Conversion = Callable[[Image.Image], Image.Image]

_EIGHT_BITS = 255
# The gamma of displays, and the deviation of a file's gamma from it that is not visible.
_DISPLAY, _SLIGHT = 2.2, 0.02
# The profiles of printing presses have 0.5 to 3 MiB; the time to open one grows with its size.
_MAX_PROFILE_BYTES = 1 << 22
# Opening a profile takes up to 0.1 s. The pages of a document usually share one.
_MAX_PROFILES = 8
# Chains of operations ("multiProcessElements") of arbitrary length, which browsers do not support either.
_CHAIN = b"mpet\0\0\0\0"
# The tags of table-based profiles; nearly all RGB profiles consist of curves and a matrix instead. LittleCMS
# does not read profiles with more than this number of tags.
_TABLES, _FIRST_TAG, _TAG_BYTES, _TAGS = (b"A2B", b"D2B"), 132, 12, 100
# The mode to which a profile applies, for modes without colour channels of their own.
_OTHERS = {"P": "RGB", "LA": "RGB", "PA": "RGB", "RGBA": "RGBA"}


class Profiles:
    """The colour profiles of one image file, each of which is opened once."""

    def __init__(self) -> None:
        self._changes: dict[tuple[bytes, str], Conversion | None] = {}

    def conversion(self, profile: Any, mode: str) -> Conversion | None:
        """Return a conversion of pieces in ``mode`` to sRGB: RGBA to RGBA, all others to RGB.

        Returns None without a valid profile for such colours. Raises ``ImageError`` for a profile that would
        take too long to apply, and for too many profiles.
        """
        if mode == "LAB" and not profile:
            profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
        if not profile or not isinstance(profile, bytes):
            return None
        return self._conversion(profile, _OTHERS.get(mode, mode))

    def _conversion(self, profile: bytes, mode: str) -> Conversion | None:
        if len(profile) > _MAX_PROFILE_BYTES or _CHAIN in profile:
            raise ImageError("its colour profile takes too long to apply; save it with sRGB.")
        if (profile, mode) not in self._changes:
            if len(self._changes) == _MAX_PROFILES:
                raise ImageError(f"it has more than {_MAX_PROFILES} colour profiles.")
            self._changes[profile, mode] = _to_srgb(profile, mode)
        return self._changes[profile, mode]


def is_table_based(profile: Any) -> bool:
    """Return whether a profile is table-based, which takes two to three times as long as a matrix."""
    if not isinstance(profile, bytes):
        return False
    tags = min(int.from_bytes(profile[_FIRST_TAG - 4 : _FIRST_TAG]), _TAGS)
    places = range(_FIRST_TAG, _FIRST_TAG + tags * _TAG_BYTES, _TAG_BYTES)
    return any(profile.startswith(_TABLES, place) for place in places)


def _to_srgb(profile: bytes, mode: str) -> Conversion | None:
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        to = "RGBA" if mode == "RGBA" else "RGB"
        transform = ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), mode, to)
    except (ImageCms.PyCMSError, OSError, ValueError):
        # The profile is damaged, or is for another colour space than that of the image.
        return None

    def change(piece: Image.Image) -> Image.Image:
        changed = ImageCms.applyTransform(piece if piece.mode == mode else piece.convert(mode), transform)
        assert changed is not None  # only in-place transforms return None
        return changed

    return change


def gamma_correction(gamma: Any) -> Conversion | None:
    """Return a gamma correction as browsers apply it to PNGs with a gAMA chunk, or None if not needed.

    Each value is raised to the power of 1 / (gamma · 2.2).
    """
    if not gamma or abs(gamma * _DISPLAY - 1) <= _SLIGHT:
        return None
    table = [round(_EIGHT_BITS * (value / _EIGHT_BITS) ** (1 / (gamma * _DISPLAY))) for value in range(256)]

    def change(piece: Image.Image) -> Image.Image:
        if piece.mode == "RGBA":
            return piece.point(table * 3 + list(range(256)))
        return piece.convert("RGB").point(table * 3)

    return change
