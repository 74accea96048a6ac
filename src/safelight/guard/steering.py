"""Steering: an image in which harm is detected is generated again with guidance.

All other images stay bit for bit what the pipeline generates. The concepts to steer away from are those that
a filter detected in the prompt, the unfinished image or the finished image; the policy names the guidance.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from safelight import registry
from safelight.alignment.delta.delta import Delta
from safelight.alignment.guidance import PolicyRisk, PromptSimilarityRisk, Risk
from safelight.alignment.guidance.risk import PolicyConcepts
from safelight.errors import ModelError, RegistryError
from safelight.models.denoiser import denoiser_of
from safelight.policy import ERASURE, GuidanceRule, Policy
from safelight.protocols import Guidance
from safelight.types import Action, Verdict

# An image that is steered away from one concept alone may come to show another one; steered away from all of
# them equally, it shows little of its prompt.
_WEIGHT_OF_OTHER_CONCEPTS = 0.5


@dataclass(frozen=True, slots=True)
class GuidancePlan:
    """The plan for generating one image: the name of its ``guidance``, and ``concepts`` to steer away from.

    ``guidance`` is None for an image without guidance. ``detected`` are the concepts that were detected in
    the image or its prompt, and ``weights`` the weight of each concept. An image is ``suspect`` if it would
    not be released without guidance.
    """

    guidance: str | None = None
    concepts: tuple[str, ...] = ()
    detected: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    suspect: bool = False

    @property
    def method(self) -> Guidance | None:
        """The registered guidance; None without guidance and for erasure, which is not registered."""
        return guidance_method(self.guidance) if self.guidance and self.guidance != ERASURE else None

    @property
    def cost(self) -> int:
        """The time that the image takes, relative to an image without guidance."""
        return self.method.cost if self.method else 1

    @property
    def shares_calls(self) -> bool:
        """Whether images with other plans may be generated in the same call."""
        return self.method is None or self.method.concept_per_image


class Steering:
    """Plans the guidance of each image according to the policy's ``[guidance]`` table.

    ``problems`` are sentences that explain why images cannot be steered as the policy requires. Raises
    ``RegistryError`` for a guidance that cannot be used.
    """

    def __init__(self, policy: Policy, pipe: Any) -> None:
        rule = policy.guidance or GuidanceRule()
        check_guidance(policy)
        self.policy = policy
        self._rule = rule
        self._pipe = pipe
        self._concepts = PolicyConcepts(policy)
        self._risk: Risk = PolicyRisk(policy) if policy.labels else PromptSimilarityRisk()
        self._steer = rule.steer
        self._deltas: dict[str, Delta] = {}
        self.problems: tuple[str, ...] = ()
        if rule.steer and (problem := unguidable(pipe)):
            self._steer, self.problems = (), (f"no image could be steered away from harm: {problem}",)
        elif ERASURE in rule.names:
            self._load_deltas()

    def _load_deltas(self) -> None:
        """Load the deltas, keyed by the concept that each erases, except those made for other models."""
        for name, path in self.policy.deltas.items():
            try:
                delta = _cached_delta(path, path.stat().st_mtime_ns)
                delta.check(self._pipe)
                self._deltas[self._concepts.text(name)] = delta
            except (ModelError, OSError) as problem:
                self.problems += (f'"{name}" could not be erased: {problem}',)

    def first_plan(self, prompt: Verdict) -> GuidancePlan | None:
        """Return the plan for images of a prompt with this verdict; None if none may be generated."""
        if prompt.action >= Action.STEER:
            return self.next_plan(GuidancePlan(), prompt) if prompt.action is Action.STEER else None
        guidance = (prompt.action is Action.REVIEW and self._rule.review) or self._rule.default
        if not guidance:
            return GuidancePlan()
        return self._plan(guidance, self._concepts.of(prompt))

    def next_plan(self, tried: GuidancePlan, verdict: Verdict) -> GuidancePlan | None:
        """Return the plan after ``tried``, given a verdict on the image or its prompt.

        Returns None if there is no further guidance to try.
        """
        remaining = self._steer
        if tried.detected and tried.guidance in remaining:
            remaining = remaining[remaining.index(tried.guidance) + 1 :]
        detected = self._concepts.of(verdict)
        concepts = tuple(dict.fromkeys((*tried.detected, *detected)))
        useful = (each for each in remaining if each != ERASURE or self._deltas.keys() & concepts)
        guidance = next(useful, None)
        if not guidance or not detected:
            return None
        return replace(self._plan(guidance, concepts), suspect=True)

    def grouped(
        self, plans: Mapping[int, GuidancePlan], max_cost: int | None = None
    ) -> list[dict[int, GuidancePlan]]:
        """Return groups of images that can be generated in one call each.

        All images of a call are generated with the same weights, and cost at most ``max_cost`` together.
        """
        groups: list[dict[int, GuidancePlan]] = []
        latest: dict[Hashable, tuple[dict[int, GuidancePlan], int]] = {}
        for number, plan in plans.items():
            key = tuple(self.deltas(plan)), None if plan.shares_calls else number
            group, cost = latest.get(key, ({}, 0))
            if not group or (max_cost is not None and cost + plan.cost > max_cost):
                group, cost = {}, 0
                groups.append(group)
            group[number] = plan
            latest[key] = group, cost + plan.cost
        return groups

    def judge(self, plan: GuidancePlan, verdict: Verdict) -> Verdict:
        """Return the verdict on an image with this plan; a lower threshold applies to a suspect image."""
        if not plan.suspect or self._rule.score is None or verdict.reasons:
            return verdict
        return self.policy.again(verdict, self._rule.score)

    def _plan(self, guidance: str, detected: tuple[str, ...]) -> GuidancePlan:
        """Steer away from what was detected and, less, from all other concepts of the policy.

        Where nothing was detected, all concepts of the policy have the same weight.
        """
        if not detected and guidance == ERASURE:
            return GuidancePlan(guidance, tuple(self._deltas)) if self._deltas else GuidancePlan()
        if not detected:
            everything = ", ".join(self._concepts.all)
            return GuidancePlan(guidance, (everything,), (), {everything: 1.0})
        others = ", ".join(text for text in self._concepts.all if text not in detected)
        weights = dict.fromkeys(detected, 1.0)
        if others:
            weights[others] = _WEIGHT_OF_OTHER_CONCEPTS
        return GuidancePlan(guidance, detected, detected, weights)

    @property
    def risk(self) -> Risk:
        """The risk model, which chooses the concepts for images whose prompts have no findings."""
        return self._risk

    def deltas(self, plan: GuidancePlan) -> dict[int, Delta]:
        """Return the distinct deltas that are applied while the image is generated, by identity."""
        return {id(delta): delta for delta in self.erased(plan).values()}

    def erased(self, plan: GuidancePlan) -> dict[str, Delta]:
        """Return the deltas by the concept that each erases; several concepts may share one delta."""
        if plan.guidance != ERASURE:
            return {}
        return {text: delta for text, delta in self._deltas.items() if text in plan.concepts}


def check_guidance(policy: Policy) -> None:
    """Raise ``RegistryError`` for a guidance of the policy that cannot be used."""
    for name in policy.guidance.names if policy.guidance else ():
        if name != ERASURE:
            guidance_method(name)


@cache
def guidance_method(name: str) -> Guidance:
    """Return an instance of the registered guidance, from which its cost and capabilities can be read.

    Raises ``RegistryError`` if it is unknown, cannot be imported, or is not a guidance.
    """
    method = registry.build("guidance", name, concepts=[{"harm": 1.0}], bounded=True)
    if not isinstance(method, Guidance):
        needed = "name, concepts, cost, concept_per_image, edits_conditioning, attach"
        missing = [each for each in needed.split(", ") if not hasattr(method, each)]
        raise RegistryError(
            f'the guidance "{name}" has no {missing[0]}; implement safelight.protocols.Guidance.'
        )
    return method


@lru_cache(maxsize=16)
def _cached_delta(path: Path, _changed: int) -> Delta:
    """Load a delta once for all requests, and again if its file changes."""
    return Delta.load(path)


def unguidable(pipe: Any) -> str | None:
    """Return the reason why the pipeline cannot be guided, or None if it can."""
    try:
        denoiser_of(pipe)
    except ModelError as error:
        return str(error)
    return None
