"""Limits on the decoding of images."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Limits on one image; larger images are rejected.

    ``encoded_bytes`` limits the size of the file; formats that are slow to decode have a fraction of it.
    ``pixels`` limits the size of a frame. ``pixels_of_all`` limits the pixels of all frames together, and
    also of all views of them: views that exceed it are reduced in size.

    The defaults allow a photograph of 4096 × 4096 pixels, and keep the worst file below 2 seconds on one core
    and 300 MiB, which ``make fuzz`` measures.
    """

    encoded_bytes: int = 1 << 26
    pixels: int = 1 << 24
    frames: int = 1000
    pixels_of_all: int = 1 << 24
