"""Reads images of every kind in one way: as RGB, as a viewer shows them, frame by frame, within limits."""

from safelight.images.limits import ImageLimits
from safelight.images.opening import open_image
from safelight.images.source import SUFFIXES, Source

__all__ = ["SUFFIXES", "ImageLimits", "Source", "open_image"]
