"""Guidance: alignment at inference time, which steers an image away from concepts during generation."""

from safelight.alignment.guidance.concepts import DEFAULT_CONCEPT, Concept, category_concepts, concept_of
from safelight.alignment.guidance.configuration import CONFIGURATIONS, SafetyConfig
from safelight.alignment.guidance.guidance import Attachment, Guidance
from safelight.alignment.guidance.hook import is_guided
from safelight.alignment.guidance.negative import NegativeGuidance, NegativePrompt
from safelight.alignment.guidance.projection import PromptProjection
from safelight.alignment.guidance.risk import PolicyRisk, PromptSimilarityRisk, Risk
from safelight.alignment.guidance.safe_guidance import SafeGuidance
from safelight.alignment.guidance.trace import Trace

__all__ = [
    "CONFIGURATIONS",
    "DEFAULT_CONCEPT",
    "Attachment",
    "Concept",
    "Guidance",
    "NegativeGuidance",
    "NegativePrompt",
    "PolicyRisk",
    "PromptProjection",
    "PromptSimilarityRisk",
    "Risk",
    "SafeGuidance",
    "SafetyConfig",
    "Trace",
    "category_concepts",
    "concept_of",
    "is_guided",
]
