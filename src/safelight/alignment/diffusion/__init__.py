"""Alignment of the diffusion model itself: concepts are taken out of its weights."""

from safelight.alignment.diffusion.uce import UCE

__all__ = ["UCE"]
