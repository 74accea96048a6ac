"""Which images are led away at all, and from what: told by what the model itself reads in their prompts.

Guidance acts on every image, harmless ones as well, and costs them objects that nobody minds. But what a
prompt asks for stands in its embeddings, in whatever words: the states of "revolver" and of "a gun" are near
each other, because the same images were learnt with both.
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
# Cosines of each image's prompt with each text, (images, texts).
Similarity = Callable[[Sequence[str]], "NDArray[np.float32]"]

# In the storybook's encoder words for a thing are at .85 and more, words for anything else at .56 and less.
THRESHOLD = 0.7


class Risk(Protocol):
    """Says from what each image is led away, by text how much it counts; nothing for a harmless one."""

    def __call__(self, weights: Sequence[Weights], similarity: Similarity) -> list[Weights]:
        """``weights`` is what it would be at the worst."""
        ...


class PromptSimilarityRisk:
    """An image is at risk from the concepts that its prompt asks for.

    Of a text with commas in it each part is listened for, and counts by itself.
    """

    def __init__(self, threshold: float = THRESHOLD) -> None:
        _check(threshold)
        self.threshold = threshold

    def __call__(self, weights: Sequence[Weights], similarity: Similarity) -> list[Weights]:
        parts = [{part: w for text, w in each.items() for part in names_of(text)} for each in weights]
        listened = list(dict.fromkeys(part for each in parts for part in each))
        if not listened:
            return list(weights)
        near = [dict(zip(listened, row, strict=True)) for row in similarity(listened) >= self.threshold]
        return [
            {part: w for part, w in mine.items() if heard[part]}
            for mine, heard in zip(parts, near, strict=True)
        ]


class PolicyRisk:
    """An image is at risk if ``policy`` minds what its prompt asks for, company included.

    Every label of the policy is heard in a prompt, in whatever words, and judged as if a filter had found it.
    The policy says as well from what the image is led away, not the guidance's concept.
    """

    def __init__(self, policy: Policy, threshold: float = THRESHOLD) -> None:
        _check(threshold)
        self.policy = policy
        self.threshold = threshold
        rules = [(*rule.all, *rule.any, *rule.unless, *rule.protected) for rule in policy.context]
        self._labels = list(dict.fromkeys([*policy.labels, *(label for rule in rules for label in rule)]))
        self._concepts = PolicyConcepts(policy)
        if not self._labels:
            raise RequestError(f'the policy "{policy.name}" names no label that could be heard in a prompt.')

    def __call__(self, weights: Sequence[Weights], similarity: Similarity) -> list[Weights]:
        heard = similarity([self._concepts.text(label) for label in self._labels]) >= self.threshold
        return [self._minded(row) if mine else {} for row, mine in zip(heard, weights, strict=True)]

    def _minded(self, heard: NDArray[np.bool_]) -> Weights:
        findings = [
            Finding(label, 1.0, "prompt")
            for label, is_there in zip(self._labels, heard, strict=True)
            if is_there
        ]
        verdict = self.policy.judge("prompt", findings)
        return dict.fromkeys(self._concepts.of(verdict), 1.0) if verdict.action >= Action.REVIEW else {}


class PolicyConcepts:
    """What stands for the labels and categories of a policy: its own ``[guidance.concepts]``, or a text.

    ``all`` is for everything that the policy acts on.
    """

    def __init__(self, policy: Policy) -> None:
        own = (policy.guidance or GuidanceRule()).concepts
        self._own = own
        self._known = {**category_concepts(), **own}
        told = {c for label, cs in policy.labels.items() if label in own for c in cs} | own.keys()
        told |= {rule.category for rule in policy.context if {*rule.all, *rule.any} & own.keys()}
        rest = [self._known[c] for c in policy.categories if c in self._known and c not in told]
        self.all = tuple(dict.fromkeys([*own.values(), *rest]))

    def text(self, name: str) -> str:
        """Of a label or category."""
        return self._known.get(name, f"a {name}")

    def of(self, verdict: Verdict) -> tuple[str, ...]:
        """Of what decided the verdict; none if that is nothing that one could lead away from."""
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
