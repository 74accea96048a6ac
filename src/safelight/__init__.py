"""Guardrails for image-generation models: policy, filters, alignment, evaluation."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safelight.errors import SafelightError
    from safelight.guard.async_guard import AsyncGuard
    from safelight.guard.guard import Guard
    from safelight.models.pipelines import load_pipeline
    from safelight.policy import Policy, packaged_policies
    from safelight.types import Action, Box, Concept, Finding, HashMatch, Result, Span, Verdict

__version__ = "0.2.0"

# Public names are imported when they are first used, so that ``import safelight`` costs nothing.
_HOMES = {
    "Action": "types",
    "AsyncGuard": "guard.async_guard",
    "Box": "types",
    "Concept": "types",
    "Finding": "types",
    "Guard": "guard.guard",
    "HashMatch": "types",
    "Policy": "policy",
    "Result": "types",
    "SafelightError": "errors",
    "Span": "types",
    "Verdict": "types",
    "load_pipeline": "models.pipelines",
    "packaged_policies": "policy",
}

__all__ = [
    "Action",
    "AsyncGuard",
    "Box",
    "Concept",
    "Finding",
    "Guard",
    "HashMatch",
    "Policy",
    "Result",
    "SafelightError",
    "Span",
    "Verdict",
    "__version__",
    "load_pipeline",
    "packaged_policies",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
