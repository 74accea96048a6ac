"""The storybook world: cartoon scenes with exact ground truth, a model trained on them, and its judge."""

from safelight.storybook.detector import Detector, Judge, Sighting
from safelight.storybook.scene import Scene, Storybook
from safelight.storybook.truth import Relation, harms

__all__ = ["Detector", "Judge", "Relation", "Scene", "Sighting", "Storybook", "harms"]
