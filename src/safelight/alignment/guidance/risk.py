"""Risks: which images are guided, and away from which concepts, decided from their prompt embeddings.

Without a risk, guidance changes every image, and harmless images may lose objects that they should show. The
embeddings reflect what a prompt asks for, whatever its wording: those of "revolver" and of "a gun" are close
to each other, because the text encoder saw both with the same images in training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from safelight.alignment.guidance.concepts import category_concepts
from safelight.alignment.method.concept_names import names_of
from safelight.errors import RequestError
from safelight.policy import GuidanceRule, Policy
from safelight.types import Action, Finding, Verdict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Weights = Mapping[str, float]
# Returns the cosine similarities of each image's prompt with each text, (images, texts).
Similarity = Callable[[Sequence[str]], "NDArray[np.float32]"]

# In the storybook's text encoder, synonyms have cosine similarities of at least 0.85, other words of at most
# 0.56.
THRESHOLD = 0.7


class Risk(Protocol):
    """Decides which concepts each image is steered away from, and with which weights."""

    def __call__(self, weights: Sequence[Weights], similarity: Similarity) -> list[Weights]:
        """Return the weights of the concepts for each image; none for an image that is not at risk.

        ``weights`` are those of an image that is at risk of every concept.
        """
        ...


class PromptSimilarityRisk:
    """A risk by similarity: an image is at risk of a concept if its prompt is similar to the concept.

    Each comma-separated part of a concept is compared, and applied, separately.
    """

    def __init__(self, threshold: float = THRESHOLD) -> None:
        _check(threshold)
        self.threshold = threshold

    def __call__(self, weights: Sequence[Weights], similarity: Similarity) -> list[Weights]:
        parts = [{part: w for text, w in each.items() for part in names_of(text)} for each in weights]
        texts = list(dict.fromkeys(part for each in parts for part in each))
        if not texts:
            return list(weights)
        similar = [dict(zip(texts, row, strict=True)) for row in similarity(texts) >= self.threshold]
        return [
            {part: w for part, w in own.items() if is_similar[part]}
            for own, is_similar in zip(parts, similar, strict=True)
        ]


class PolicyRisk:
    """A risk by policy: an image is at risk if ``policy`` acts on what its prompt asks for.

    Every label of the policy that the prompt is similar to is judged as if a filter had found it, context
    rules included. The image is steered away from the concepts of the policy's verdict, not from the
    guidance's own concept.
    """

    def __init__(self, policy: Policy, threshold: float = THRESHOLD) -> None:
        _check(threshold)
        self.policy = policy
        self.threshold = threshold
        rules = [(*rule.all, *rule.any, *rule.unless, *rule.protected) for rule in policy.context]
        self._labels = list(dict.fromkeys([*policy.labels, *(label for rule in rules for label in rule)]))
        self._concepts = PolicyConcepts(policy)
        if not self._labels:
            raise RequestError(
                f'the policy "{policy.name}" has no label to compare prompts with; add some under [labels].'
            )

    def __call__(self, weights: Sequence[Weights], similarity: Similarity) -> list[Weights]:
        similar = similarity([self._concepts.text(label) for label in self._labels]) >= self.threshold
        return [self._judged(row) if own else {} for row, own in zip(similar, weights, strict=True)]

    def _judged(self, similar: NDArray[np.bool_]) -> Weights:
        """Return the weights of the concepts that the policy acts on, given which labels are similar."""
        findings = [
            Finding(label, 1.0, "prompt")
            for label, is_similar in zip(self._labels, similar, strict=True)
            if is_similar
        ]
        verdict = self.policy.judge("prompt", findings)
        return dict.fromkeys(self._concepts.of(verdict), 1.0) if verdict.action >= Action.REVIEW else {}


class PolicyConcepts:
    """The texts that describe the labels and categories of a policy.

    They come from its ``[guidance.concepts]``, then from the packaged texts of the categories. ``all`` are
    the texts for everything that the policy acts on.
    """

    def __init__(self, policy: Policy) -> None:
        own = (policy.guidance or GuidanceRule()).concepts
        self._own = own
        self._known = {**category_concepts(), **own}
        covered = {c for label, cs in policy.labels.items() if label in own for c in cs} | own.keys()
        covered |= {rule.category for rule in policy.context if {*rule.all, *rule.any} & own.keys()}
        rest = [self._known[c] for c in policy.categories if c in self._known and c not in covered]
        self.all = tuple(dict.fromkeys([*own.values(), *rest]))

    def text(self, name: str) -> str:
        """Return the text of a label or category."""
        return self._known.get(name, f"a {name}")

    def of(self, verdict: Verdict) -> tuple[str, ...]:
        """Return the texts of the labels or categories that decided the verdict.

        There are none if a filter failed or if one of them has no text.
        """
        decided = {name: c for name, c in verdict.categories.items() if c.action > Action.ALLOW}
        if verdict.reasons or not decided.keys() <= self._known.keys():
            return ()
        named: dict[str, None] = {}
        for category, score in decided.items():
            own = [self._own[label] for label in score.labels if label in self._own]
            named |= dict.fromkeys(own or [self._known[category]])
        return tuple(named)


def _check(threshold: float) -> None:
    if not 0 < threshold < 1:
        raise RequestError(f"the threshold is {threshold}; it must be between 0 and 1.")
