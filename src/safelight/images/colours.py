"""Colours brought to what displays show: by the colour profile of an image, or by its gamma."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from PIL import Image, ImageCms

from safelight.errors import ImageError

Change = Callable[[Image.Image], Image.Image]

_EIGHT_BITS = 255
# The exponent of displays, and how far a file's may be from it without being seen.
_DISPLAY, _SLIGHT = 2.2, 0.02
# The profiles of presses have 0.5 to 3 MiB; the time to ready one grows with its size.
_PROFILE_BYTES = 1 << 22
# Readying a profile takes up to 0.1 s. The pages of a document share one.
_PROFILES = 8
# Chains of arithmetic ("multiProcessElements") as long as the file likes, which browsers do not read either.
_CHAIN = b"mpet\0\0\0\0"
# A profile of curves and a matrix, as nearly all of RGB are, has no such tags; with more tags than that,
# LittleCMS does not read it.
_TABLES, _FIRST_TAG, _TAG_BYTES, _TAGS = (b"A2B", b"D2B"), 132, 12, 100
# Modes that have no colours of their own for a profile to speak of.
_OTHERS = {"P": "RGB", "LA": "RGB", "PA": "RGB", "RGBA": "RGBA"}


class Profiles:
    """The colour profiles of one image file, each of them readied once."""

    def __init__(self) -> None:
        self._changes: dict[tuple[bytes, str], Change | None] = {}

    def change(self, profile: Any, mode: str) -> Change | None:
        """What brings pieces in ``mode`` to sRGB: RGBA to RGBA, all others to RGB. None without a sound
        profile for such colours.

        Raises ``ImageError`` for a profile that would take too long, or for too many.
        """
        if mode == "LAB" and not profile:
            profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
        if not profile or not isinstance(profile, bytes):
            return None
        return self._readied(profile, _OTHERS.get(mode, mode))

    def _readied(self, profile: bytes, mode: str) -> Change | None:
        if len(profile) > _PROFILE_BYTES or _CHAIN in profile:
            raise ImageError("its colour profile takes too long to apply; save it with sRGB.")
        if (profile, mode) not in self._changes:
            if len(self._changes) == _PROFILES:
                raise ImageError(f"it has more than {_PROFILES} colour profiles.")
            self._changes[profile, mode] = _to_srgb(profile, mode)
        return self._changes[profile, mode]


def is_table(profile: Any) -> bool:
    """Whether it brings colours to sRGB by a table, which takes two to three times as long as a matrix."""
    if not isinstance(profile, bytes):
        return False
    tags = min(int.from_bytes(profile[_FIRST_TAG - 4 : _FIRST_TAG]), _TAGS)
    places = range(_FIRST_TAG, _FIRST_TAG + tags * _TAG_BYTES, _TAG_BYTES)
    return any(profile.startswith(_TABLES, place) for place in places)


def _to_srgb(profile: bytes, mode: str) -> Change | None:
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        to = "RGBA" if mode == "RGBA" else "RGB"
        transform = ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), mode, to)
    except (ImageCms.PyCMSError, OSError, ValueError):
        # A profile for another kind of colours than the image has, or a damaged one.
        return None

    def change(piece: Image.Image) -> Image.Image:
        changed = ImageCms.applyTransform(piece if piece.mode == mode else piece.convert(mode), transform)
        assert changed is not None  # only what is changed in place gives None
        return changed

    return change


def gamma_change(gamma: Any) -> Change | None:
    """As browsers show a PNG with a gAMA chunk: each value to the power of 1 / (gamma · 2.2)."""
    if not gamma or abs(gamma * _DISPLAY - 1) <= _SLIGHT:
        return None
    table = [round(_EIGHT_BITS * (value / _EIGHT_BITS) ** (1 / (gamma * _DISPLAY))) for value in range(256)]

    def change(piece: Image.Image) -> Image.Image:
        if piece.mode == "RGBA":
            return piece.point(table * 3 + list(range(256)))
        return piece.convert("RGB").point(table * 3)

    return change
