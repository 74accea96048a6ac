"""See, then steer: pictures are drawn as the model draws them, and again, led away, where harm was seen.

What nobody objects to stays as it was, bit by bit. What a filter saw, in the prompt, on the way or in the
end, says from what to lead away; the policy says how strongly.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from safelight.alignment.delta import Delta
from safelight.alignment.denoiser import denoiser_of
from safelight.alignment.guidance import (
    CONFIGURATIONS,
    Asked,
    Attachment,
    Guidance,
    Judged,
    PromptProjection,
    Risk,
    SafeGuidance,
)
from safelight.alignment.guidance.risk import PolicyConcepts
from safelight.errors import ModelError
from safelight.policy import Led, Policy
from safelight.types import Action, TraceStep, Verdict

Traced = Callable[[int], tuple[TraceStep, ...]]

_ERASURE = "erasure"

# Led away from one hazard alone, pictures come upon another; led away from all as much, they show little of
# what their prompts ask for.
_REST = 0.5


@dataclass(frozen=True, slots=True)
class Lead:
    """How strongly a picture is led away from which concepts; with None it is not. ``seen`` are those that
    were seen in it or its prompt, and ``weights`` how much each text counts in Safe Latent Diffusion. It is
    ``suspect`` if it would not be released otherwise."""

    strength: str | None = None
    concepts: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    suspect: bool = False


class Steering:
    """What the policy's ``[guidance]`` says for each picture."""

    def __init__(self, policy: Policy, pipe: Any) -> None:
        rule = policy.guidance or Led()
        self._policy = policy
        self._rule = rule
        self._pipe = pipe
        self._concepts = PolicyConcepts(policy)
        self._risk: Risk = Judged(policy) if policy.labels else Asked()
        self._steer = rule.steer
        self._deltas: dict[str, Delta] = {}
        self.problems: tuple[str, ...] = ()
        if rule.steer and (problem := unguidable(pipe)):
            self._steer, self.problems = (), (f"no picture could be led away from harm: {problem}",)
        elif _ERASURE in (*rule.steer, rule.review, rule.default):
            self._load()

    def _load(self) -> None:
        """The deltas by what stands for that which they take out, without those that are for other models."""
        for name, path in self._policy.deltas.items():
            try:
                delta = _kept(path, path.stat().st_mtime_ns)
                delta.check(self._pipe)
                self._deltas[self._concepts.text(name)] = delta
            except (ModelError, OSError) as problem:
                self.problems += (f'"{name}" could not be erased: {problem}',)

    def first(self, prompt: Verdict) -> Lead | None:
        """How pictures of this prompt are drawn; None if they are not."""
        if prompt.action >= Action.STEER:
            return self.again(Lead(), prompt) if prompt.action is Action.STEER else None
        strength = (prompt.action is Action.REVIEW and self._rule.review) or self._rule.default
        if not strength:
            return Lead()
        return self._lead(strength, self._concepts.of(prompt))

    def again(self, tried: Lead, verdict: Verdict) -> Lead | None:
        """How a picture is drawn in which, or in whose prompt, this was seen; None if it is not any more."""
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

    def together(self, leads: Mapping[int, Lead]) -> list[dict[int, Lead]]:
        """The pictures that can be drawn in one call: all of a call are drawn by the same weights."""
        groups: dict[tuple[int, ...], dict[int, Lead]] = {}
        for number, lead in leads.items():
            groups.setdefault(tuple(self._weights(lead)), {})[number] = lead
        return list(groups.values())

    def judge(self, lead: Lead, verdict: Verdict) -> Verdict:
        """What is said of a picture that was led so. Less is enough against one that is suspect."""
        if not lead.suspect or self._rule.score is None or verdict.reasons:
            return verdict
        return self._policy.again(verdict, self._rule.score)

    def _lead(self, strength: str, seen: tuple[str, ...]) -> Lead:
        """Away from what was seen and what else the policy minds; from all alike where nothing was seen."""
        if not seen and strength == _ERASURE:
            return Lead(strength, tuple(self._deltas)) if self._deltas else Lead()
        if not seen:
            everything = ", ".join(self._concepts.all)
            return Lead(strength, (everything,), (), {everything: 1.0})
        rest = ", ".join(text for text in self._concepts.all if text not in seen)
        weights = dict.fromkeys(seen, 1.0)
        return Lead(strength, seen, seen, {**weights, rest: _REST} if rest else weights)

    @contextmanager
    def leading(self, leads: Sequence[Lead], arguments: Mapping[str, Any]) -> Iterator[Traced]:
        """While it lasts, the pictures of a call are led, the first by the first lead; all are such as can be
        drawn ``together``.

        Gives a function that gives a picture's trace. Raises ``ModelError`` for a pipeline that cannot be
        guided.
        """
        guidances = list(self._guidances(leads, _scales(self._pipe, arguments)))
        with ExitStack() as stack:
            for delta in self._weights(leads[0]).values():
                stack.enter_context(delta.attach(self._pipe))
            attached = [stack.enter_context(guidance.attach(self._pipe)) for guidance in guidances]
            yield lambda picture: _trace(attached, picture) if leads[picture].strength else ()

    def _guidances(self, leads: Sequence[Lead], scales: Mapping[str, Any]) -> Iterator[Guidance]:
        """What was seen and not erased, or what the policy minds of a prompt, is left out of what the network
        is told; then Safe Latent Diffusion leads away from it as well."""
        left = [[text for text in lead.seen if text not in self._erased(lead)] for lead in leads]
        seen = [dict.fromkeys(texts, 1.0) or None for texts in left]
        unseen = [lead.weights or None if not lead.seen else None for lead in leads]
        if any(seen):
            yield PromptProjection(concepts=seen, **scales)
        if any(unseen):
            yield PromptProjection(concepts=unseen, when=self._risk, **scales)
        strengths = dict.fromkeys(lead.strength for lead in leads if lead.strength)
        for strength in [each for each in CONFIGURATIONS if each in strengths]:
            concepts = [lead.weights if lead.strength == strength else None for lead in leads]
            yield SafeGuidance(strength, concepts=concepts, bounded=True, **scales)

    def _weights(self, lead: Lead) -> dict[int, Delta]:
        """What is put on the weights while the picture is drawn: one file may stand for several things."""
        return {id(delta): delta for delta in self._erased(lead).values()}

    def _erased(self, lead: Lead) -> dict[str, Delta]:
        """By what it takes out."""
        if lead.strength != _ERASURE:
            return {}
        return {text: delta for text, delta in self._deltas.items() if text in lead.concepts}


@lru_cache(maxsize=16)
def _kept(path: Path, _changed: int) -> Delta:
    """Read once for all requests, and again if the file changes."""
    return Delta.load(path)


def _trace(attached: Sequence[Attachment], picture: int) -> tuple[TraceStep, ...]:
    """Of the last that led it; of the last that might have, if none did."""
    traces = [each.traces[picture] for each in reversed(attached) if each.traces]
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
