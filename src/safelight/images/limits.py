"""How much of an image is decoded at most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The most that is decoded of one image; what is larger is refused.

    ``encoded_bytes`` is the size of the file, of which compressed kinds that are slow to decode may use a
    part only; ``pixels`` is the size of a frame. ``pixels_of_all`` limits the pixels of all frames together,
    and also the pixels of all views that are made of them: views that do not fit are reduced.

    The defaults let a photograph of 4096 × 4096 pixels through, and keep the worst file below 2 seconds on
    one core and 300 MiB, which ``make fuzz`` measures.
    """

    encoded_bytes: int = 1 << 26
    pixels: int = 1 << 24
    frames: int = 1000
    pixels_of_all: int = 1 << 24
