"""CLIP models, which embed images and texts in one space.

Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision.
"""

from safelight.clip.concepts import NEUTRAL, Comparison, Concepts, sigmoid
from safelight.clip.model import ClipModel, load_clip
from safelight.clip.preprocessing import Preprocessing
from safelight.clip.towers import Towers

__all__ = [
    "NEUTRAL",
    "ClipModel",
    "Comparison",
    "Concepts",
    "Preprocessing",
    "Towers",
    "load_clip",
    "sigmoid",
]
