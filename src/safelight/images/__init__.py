"""Reads images from all supported sources and formats as RGB frames, as viewers show them, within limits."""

from safelight.images.limits import ImageLimits
from safelight.images.opening import open_image
from safelight.images.source import SUFFIXES, Source, images_in

__all__ = ["SUFFIXES", "ImageLimits", "Source", "images_in", "open_image"]
