"""See, then steer: pictures are drawn as the model draws them, and again, led away, where harm was seen.

What nobody objects to stays as it was, bit by bit. What a filter saw, in the prompt, on the way or in the
end, says from what to lead away; the policy says how strongly.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from safelight.alignment.denoiser import denoiser_of
from safelight.alignment.guidance import SafeGuidance
from safelight.alignment.guidance.risk import PolicyConcepts, with_rest
from safelight.errors import ModelError
from safelight.policy import Led, Policy
from safelight.types import Action, TraceStep, Verdict

Traced = Callable[[int], tuple[TraceStep, ...]]


@dataclass(frozen=True, slots=True)
class Lead:
    """How strongly a picture is led away from which concepts, and how much each text counts; with None it is
    not."""

    strength: str | None = None
    concepts: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)


class Steering:
    """What the policy's ``[guidance]`` says for each picture."""

    def __init__(self, policy: Policy, pipe: Any) -> None:
        rule = policy.guidance or Led()
        self._rule = rule
        self._concepts = PolicyConcepts(policy)
        self._steer = rule.steer
        self.problems: tuple[str, ...] = ()
        if rule.steer and (problem := unguidable(pipe)):
            self._steer, self.problems = (), (f"no picture could be led away from harm: {problem}",)

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
        if tried.strength in stronger:
            stronger = stronger[stronger.index(tried.strength) + 1 :]
        seen = self._concepts.of(verdict)
        if not stronger or not seen:
            return None
        return self._lead(stronger[0], tuple(dict.fromkeys((*tried.concepts, *seen))))

    def _lead(self, strength: str, seen: tuple[str, ...]) -> Lead:
        """Away from what was seen and what else the policy minds; from all alike where nothing was seen."""
        if not seen:
            everything = ", ".join(self._concepts.all)
            return Lead(strength, (everything,), {everything: 1.0})
        return Lead(strength, seen, with_rest(dict.fromkeys(seen, 1.0), self._concepts.all))


@contextmanager
def leading(pipe: Any, leads: Sequence[Lead], arguments: Mapping[str, Any]) -> Iterator[Traced]:
    """While it lasts, the pictures of a call are led, the first by the first lead.

    Gives a function that gives a picture's trace. Raises ``ModelError`` for a pipeline that cannot be guided.
    """
    with ExitStack() as stack:
        attached = {}
        for strength in dict.fromkeys(lead.strength for lead in leads if lead.strength):
            concepts = [lead.weights if lead.strength == strength else None for lead in leads]
            guidance = SafeGuidance(strength, concepts=concepts, bounded=True, **_scales(pipe, arguments))
            attached[strength] = stack.enter_context(guidance.attach(pipe))

        def traced(picture: int) -> tuple[TraceStep, ...]:
            strength = leads[picture].strength
            traces = attached[strength].traces if strength else ()
            return traces[picture].steps if traces else ()

        yield traced


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
