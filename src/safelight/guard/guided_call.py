"""One call of a pipeline in which each image is guided by its own plan."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from safelight import registry
from safelight.guard.steering import GuidancePlan, Steering
from safelight.protocols import Guidance, GuidanceAttachment
from safelight.types import TraceStep

Plans = Sequence[tuple[Steering, GuidancePlan]]
TraceOf = Callable[[int], tuple[TraceStep, ...]]

# The guidance that removes concepts from the prompt embeddings, unless the plan's own guidance does so.
_PROJECTION = "prompt-projection"


@contextmanager
def guided(
    pipe: Any, plans: Plans, arguments: Mapping[str, Any], fixed_batch: bool = False
) -> Iterator[TraceOf]:
    """Guide every image of one call of ``pipe`` by its own plan, in order.

    The plans may come from several policies, but must be a group that ``Steering.grouped`` returns. Yields a
    function that returns the trace of an image. Raises ``ModelError`` for a pipeline that cannot be guided.
    """
    guidances = list(_guidances(plans, _scales(pipe, arguments)))
    steering, first = plans[0]
    with ExitStack() as stack:
        for delta in steering.deltas(first).values():
            stack.enter_context(delta.attach(pipe))
        attached = [stack.enter_context(each.attach(pipe, fixed_batch)) for each in guidances]
        yield lambda image: _trace(attached, image) if plans[image][1].guidance else ()


def _guidances(plans: Plans, scales: Mapping[str, Any]) -> Iterator[Guidance]:
    """Yield all guidance of a call, starting with guidance that edits the prompt embeddings."""
    projectors = [_projector(plan) for _, plan in plans]
    for name in dict.fromkeys(projectors):
        mine = [
            plan if name == of else GuidancePlan() for (_, plan), of in zip(plans, projectors, strict=True)
        ]
        yield from _projections(name, [(s, plan) for (s, _), plan in zip(plans, mine, strict=True)], scales)
    others = [plan.guidance for _, plan in plans if plan.method and not plan.method.edits_conditioning]
    for name in dict.fromkeys(filter(None, others)):
        concepts = [plan.weights if plan.guidance == name else None for _, plan in plans]
        yield _build(name, concepts, bounded=True, **scales)


def _projector(plan: GuidancePlan) -> str:
    """Return the name of the guidance that removes the plan's concepts from the prompt embeddings."""
    return plan.guidance if plan.guidance and plan.method and plan.method.edits_conditioning else _PROJECTION


def _projections(name: str, plans: Plans, scales: Mapping[str, Any]) -> Iterator[Guidance]:
    """Yield guidance that removes the detected concepts, apart from erased ones, from prompt embeddings.

    For images in which nothing was detected, it removes what the policy acts on in prompts at risk.
    """
    detected = [
        dict.fromkeys((text for text in plan.detected if text not in steering.erased(plan)), 1.0) or None
        for steering, plan in plans
    ]
    if any(detected):
        yield _build(name, detected, **scales)
    undetected = [plan.weights or None if not plan.detected else None for _, plan in plans]
    # Each policy has its own risk; two policies may have the same name and version.
    steerings = {
        id(steering.policy): steering for (steering, _), each in zip(plans, undetected, strict=True) if each
    }
    for policy, steering in steerings.items():
        mine = [
            each if id(s.policy) == policy else None for (s, _), each in zip(plans, undetected, strict=True)
        ]
        yield _build(name, mine, when=steering.risk, **scales)


def _build(name: str, concepts: Sequence[Mapping[str, float] | None], **options: Any) -> Guidance:
    """Build a guidance with the concepts of each image."""
    guidance: Guidance = registry.build("guidance", name, concepts=list(concepts), **options)
    return guidance


def _trace(attached: Sequence[GuidanceAttachment], image: int) -> tuple[TraceStep, ...]:
    """Return the trace of the last guidance that changed the image, or of the last that was meant for it."""
    traces = [each.traces[image] for each in reversed(attached) if each.guides(image)]
    acted = next((trace for trace in traces if trace.acted), None)
    return acted.steps if acted else traces[0].steps if traces else ()


def _scales(pipe: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scales of classifier-free guidance in a call with these arguments."""
    parameters = inspect.signature(type(pipe).__call__).parameters
    values = {name: arguments.get(name, each.default) for name, each in parameters.items()}
    scale, true_cfg_scale = values.get("guidance_scale"), values.get("true_cfg_scale")
    has_negative = arguments.get("negative_prompt") is not None
    if isinstance(true_cfg_scale, int | float) and true_cfg_scale > 1 and has_negative:
        return {"true_cfg_scale": float(true_cfg_scale)}
    return {"scale": float(scale)} if isinstance(scale, int | float) else {}
