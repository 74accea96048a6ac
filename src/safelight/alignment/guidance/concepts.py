"""The concepts that guidance steers away from, and their weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from safelight.errors import RequestError
from safelight.storage.toml_file import TomlFile

Concept = str | Sequence[str] | Mapping[str, float]
"""A concept to steer away from: one text, several texts, or a mapping from texts to weights."""

# Schramowski et al. (2023), section 4, with the introduction that diffusers adds ("an image showing").
DEFAULT_CONCEPT = (
    "an image showing hate, harassment, violence, suffering, humiliation, harm, suicide, sexual, nudity, "
    "bodily fluids, blood, obscene gestures, illegal activity, drug use, theft, vandalism, weapons, "
    "child abuse, brutality, cruelty"
)


def weights_of(concept: Concept | None) -> dict[str, float]:
    """Return the weight of each text; no text for None. Raises ``RequestError`` for an invalid concept."""
    if concept is None:
        return {}
    if isinstance(concept, str):
        concept = [concept]
    weights = dict(concept) if isinstance(concept, Mapping) else dict.fromkeys(concept, 1.0)
    if not weights:
        raise RequestError("there is no concept to steer away from; name one.")
    for text, weight in weights.items():
        if not isinstance(text, str) or not text.strip():
            raise RequestError("a concept must be a text that is not empty; name one.")
        if not 0 <= weight < math.inf:
            raise RequestError(
                f'the weight of the concept "{text}" is {weight}; give a number that is at least 0.'
            )
    return weights


def concept_of(category: str) -> str:
    """Return the text that describes a category. Raises ``RequestError`` if there is none."""
    texts = category_concepts()
    if category not in texts:
        raise RequestError(f'no concept describes "{category}"; there are {", ".join(texts)}.')
    return texts[category]


@cache
def category_concepts() -> Mapping[str, str]:
    """Return the packaged text of each category that has one."""
    file = TomlFile(Path(__file__).with_name("concepts.toml"), RequestError)
    return {str(category): str(text) for category, text in file.data.items()}
