"""Alignment of the denoiser: methods that remove concepts from its weights."""

from safelight.alignment.diffusion.debias import Debias
from safelight.alignment.diffusion.esd import ESD
from safelight.alignment.diffusion.parameters import SELECTIONS
from safelight.alignment.diffusion.uce import UCE

__all__ = ["ESD", "SELECTIONS", "UCE", "Debias"]
