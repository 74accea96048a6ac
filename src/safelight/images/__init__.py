"""Reads images of every kind in one way: as RGB, as a viewer shows them, frame by frame, within limits."""

from safelight.images.limits import PictureLimits
from safelight.images.opening import open_picture
from safelight.images.source import SUFFIXES, Source

__all__ = ["SUFFIXES", "PictureLimits", "Source", "open_picture"]
