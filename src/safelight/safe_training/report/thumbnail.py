"""Thumbnails and captions of samples for web pages."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from safelight.errors import ImageError
from safelight.images import open_image
from safelight.web_page import data_uri

if TYPE_CHECKING:
    from safelight.safe_training.cleaning.sample import Sample


def thumbnail(sample: Sample, side: int = 320) -> str:
    """Return the image, at most ``side`` pixels wide and high, as a data URI; "" if it cannot be read."""
    try:
        first = next(iter(open_image(sample.image)), None) if sample.image else None
    except ImageError:
        return ""
    if first is None:
        return ""
    first.thumbnail((side, side))
    return data_uri(first, "JPEG")


def caption_of(sample: Sample, included: bool) -> str:
    """Return the caption escaped for HTML, or "" if captions are not included."""
    return escape(sample.caption or "no caption") if included else ""
