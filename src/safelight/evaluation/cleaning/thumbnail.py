"""Samples on pages: their images, small, and if asked for their captions."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from safelight.errors import ImageError
from safelight.images import open_image
from safelight.web_page import data_uri

if TYPE_CHECKING:
    from safelight.alignment.training_data.sample import Sample


def thumbnail(sample: Sample, side: int = 320) -> str:
    """The ``src`` of a copy no wider and no higher than ``side``; "" where it cannot be read."""
    try:
        first = next(iter(open_image(sample.image)), None) if sample.image else None
    except ImageError:
        return ""
    if first is None:
        return ""
    first.thumbnail((side, side))
    return data_uri(first, "JPEG")


def caption_of(sample: Sample, included: bool) -> str:
    """The caption, escaped; nothing of it unless captions are included."""
    return escape(sample.caption or "no caption") if included else ""
