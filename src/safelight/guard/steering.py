"""See, then steer: images are drawn as the model draws them, and again, led away, where harm was seen.

What nobody objects to stays as it was, bit by bit. What a filter saw, in the prompt, on the way or in the
end, says from what to lead away; the policy says how strongly.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from safelight.alignment.delta.delta import Delta
from safelight.alignment.guidance import (
    CONFIGURATIONS,
    Attachment,
    Guidance,
    PolicyRisk,
    PromptProjection,
    PromptSimilarityRisk,
    Risk,
    SafeGuidance,
)
from safelight.alignment.guidance.risk import PolicyConcepts
from safelight.errors import ModelError
from safelight.models.denoiser import denoiser_of
from safelight.policy import GuidanceRule, Policy
from safelight.types import Action, TraceStep, Verdict

Traced = Callable[[int], tuple[TraceStep, ...]]

_ERASURE = "erasure"

# Led away from one hazard alone, images come upon another; led away from all as much, they show little of
# what their prompts ask for.
_REST = 0.5


@dataclass(frozen=True, slots=True)
class GuidancePlan:
    """How strongly an image is led away from which concepts; with None it is not. ``seen`` are those that
    were seen in it or its prompt, and ``weights`` how much each text counts in Safe Latent Diffusion. It is
    ``suspect`` if it would not be released otherwise."""

    strength: str | None = None
    concepts: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    suspect: bool = False


class Steering:
    """What the policy's ``[guidance]`` says for each image."""

    def __init__(self, policy: Policy, pipe: Any) -> None:
        rule = policy.guidance or GuidanceRule()
        self.policy = policy
        self._rule = rule
        self._pipe = pipe
        self._concepts = PolicyConcepts(policy)
        self._risk: Risk = PolicyRisk(policy) if policy.labels else PromptSimilarityRisk()
        self._steer = rule.steer
        self._deltas: dict[str, Delta] = {}
        self.problems: tuple[str, ...] = ()
        if rule.steer and (problem := unguidable(pipe)):
            self._steer, self.problems = (), (f"no image could be led away from harm: {problem}",)
        elif _ERASURE in (*rule.steer, rule.review, rule.default):
            self._load()

    def _load(self) -> None:
        """The deltas by what stands for that which they take out, without those that are for other models."""
        for name, path in self.policy.deltas.items():
            try:
                delta = _kept(path, path.stat().st_mtime_ns)
                delta.check(self._pipe)
                self._deltas[self._concepts.text(name)] = delta
            except (ModelError, OSError) as problem:
                self.problems += (f'"{name}" could not be erased: {problem}',)

    def first(self, prompt: Verdict) -> GuidancePlan | None:
        """How images of this prompt are drawn; None if they are not."""
        if prompt.action >= Action.STEER:
            return self.again(GuidancePlan(), prompt) if prompt.action is Action.STEER else None
        strength = (prompt.action is Action.REVIEW and self._rule.review) or self._rule.default
        if not strength:
            return GuidancePlan()
        return self._lead(strength, self._concepts.of(prompt))

    def again(self, tried: GuidancePlan, verdict: Verdict) -> GuidancePlan | None:
        """How an image is drawn in which, or in whose prompt, this was seen; None if it is not any more."""
        stronger = self._steer
        if tried.seen and tried.strength in stronger:
            stronger = stronger[stronger.index(tried.strength) + 1 :]
        seen = self._concepts.of(verdict)
        every = tuple(dict.fromkeys((*tried.seen, *seen)))
        useful = (each for each in stronger if each != _ERASURE or self._deltas.keys() & every)
        strength = next(useful, None)
        if not strength or not seen:
            return None
        return replace(self._lead(strength, every), suspect=True)

    def together(
        self, leads: Mapping[int, GuidancePlan], most_cost: int | None = None
    ) -> list[dict[int, GuidancePlan]]:
        """The images that can be drawn in one call: all of a call are drawn by the same weights, and cost
        at most ``most_cost`` plain images together."""
        groups: list[dict[int, GuidancePlan]] = []
        latest: dict[Hashable, tuple[dict[int, GuidancePlan], int]] = {}
        for number, lead in leads.items():
            key = tuple(self.weights(lead))
            group, cost = latest.get(key, ({}, 0))
            if not group or (most_cost is not None and cost + cost_of(lead) > most_cost):
                group, cost = {}, 0
                groups.append(group)
            group[number] = lead
            latest[key] = group, cost + cost_of(lead)
        return groups

    def judge(self, lead: GuidancePlan, verdict: Verdict) -> Verdict:
        """What is said of an image that was led so. Less is enough against one that is suspect."""
        if not lead.suspect or self._rule.score is None or verdict.reasons:
            return verdict
        return self.policy.again(verdict, self._rule.score)

    def _lead(self, strength: str, seen: tuple[str, ...]) -> GuidancePlan:
        """Away from what was seen and what else the policy minds; from all alike where nothing was seen."""
        if not seen and strength == _ERASURE:
            return GuidancePlan(strength, tuple(self._deltas)) if self._deltas else GuidancePlan()
        if not seen:
            everything = ", ".join(self._concepts.all)
            return GuidancePlan(strength, (everything,), (), {everything: 1.0})
        rest = ", ".join(text for text in self._concepts.all if text not in seen)
        weights = dict.fromkeys(seen, 1.0)
        return GuidancePlan(strength, seen, seen, {**weights, rest: _REST} if rest else weights)

    @property
    def risk(self) -> Risk:
        """Says from what images are steered away in whose prompts nothing was seen."""
        return self._risk

    def weights(self, lead: GuidancePlan) -> dict[int, Delta]:
        """Return the deltas that are applied while the image is made: one file may stand for several
        concepts."""
        return {id(delta): delta for delta in self.erased(lead).values()}

    def erased(self, lead: GuidancePlan) -> dict[str, Delta]:
        """Return the deltas by the concept that each takes out."""
        if lead.strength != _ERASURE:
            return {}
        return {text: delta for text, delta in self._deltas.items() if text in lead.concepts}


def cost_of(lead: GuidancePlan) -> int:
    """Return how much of the network's time an image takes, in plain images: Safe Latent Diffusion asks about
    two concepts beside no text and the prompt."""
    return 2 if lead.strength in CONFIGURATIONS else 1


@contextmanager
def guided(
    pipe: Any,
    plans: Sequence[tuple[Steering, GuidancePlan]],
    arguments: Mapping[str, Any],
    fixed_batch: bool = False,
) -> Iterator[Traced]:
    """While it lasts, every image of a call of ``pipe`` is steered by its own plan, the first by the first.

    The plans may be of several policies, but all are such as can be drawn ``together``. Gives a function that
    gives an image's trace. Raises ``ModelError`` for a pipeline that cannot be guided.
    """
    guidances = list(_guidances(plans, _scales(pipe, arguments)))
    steering, first = plans[0]
    with ExitStack() as stack:
        for delta in steering.weights(first).values():
            stack.enter_context(delta.attach(pipe))
        attached = [stack.enter_context(each.attach(pipe, fixed_batch)) for each in guidances]
        yield lambda image: _trace(attached, image) if plans[image][1].strength else ()


def _guidances(
    plans: Sequence[tuple[Steering, GuidancePlan]], scales: Mapping[str, Any]
) -> Iterator[Guidance]:
    """What was seen and not erased, or what the policy acts on of a prompt, is left out of what the network
    is told; then Safe Latent Diffusion steers away from it as well."""
    left = [[text for text in lead.seen if text not in steering.erased(lead)] for steering, lead in plans]
    seen = [dict.fromkeys(texts, 1.0) or None for texts in left]
    if any(seen):
        yield PromptProjection(concepts=seen, **scales)
    unseen = [lead.weights or None if not lead.seen else None for _, lead in plans]
    # Two policies may have the same name and version.
    policies = {
        id(steering.policy): steering for (steering, _), each in zip(plans, unseen, strict=True) if each
    }
    for policy, steering in policies.items():
        mine = [each if id(s.policy) == policy else None for (s, _), each in zip(plans, unseen, strict=True)]
        yield PromptProjection(concepts=mine, when=steering.risk, **scales)
    strengths = {lead.strength for _, lead in plans}
    for strength in [each for each in CONFIGURATIONS if each in strengths]:
        concepts = [lead.weights if lead.strength == strength else None for _, lead in plans]
        yield SafeGuidance(strength, concepts=concepts, bounded=True, **scales)


@lru_cache(maxsize=16)
def _kept(path: Path, _changed: int) -> Delta:
    """Read once for all requests, and again if the file changes."""
    return Delta.load(path)


def _trace(attached: Sequence[Attachment], image: int) -> tuple[TraceStep, ...]:
    """Of the last that led it; of the last that might have, if none did."""
    traces = [each.traces[image] for each in reversed(attached) if each.leads(image)]
    acted = next((trace for trace in traces if trace.acted), None)
    return acted.steps if acted else traces[0].steps if traces else ()


def unguidable(pipe: Any) -> str | None:
    """Why the pipeline cannot be guided."""
    try:
        denoiser_of(pipe)
    except ModelError as error:
        return str(error)
    return None


def _scales(pipe: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """By what the pipeline guides itself in a call with these arguments."""
    parameters = inspect.signature(type(pipe).__call__).parameters
    said = {name: arguments.get(name, each.default) for name, each in parameters.items()}
    own, second = said.get("guidance_scale"), said.get("true_cfg_scale")
    if isinstance(second, int | float) and second > 1 and arguments.get("negative_prompt") is not None:
        return {"true_cfg_scale": float(second)}
    return {"scale": float(own)} if isinstance(own, int | float) else {}
