"""Negative prompts, screened for what they can do.

Classifier-free guidance computes ε = ε₀ + s (εₚ − ε₀), where ε₀ comes from the negative prompt: its weight is
1 − s. At a guidance scale s above 1 that weight is negative, and the image moves away from what the negative
prompt says, so naming harm there is harmless. Below 1, and wherever else the sign may turn, a negative prompt
draws what it says and is screened as a prompt. What makes the category csae is never allowed in either.
"""

from __future__ import annotations

import inspect
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from safelight.arguments import is_negative_prompt, is_number
from safelight.policy import Policy
from safelight.screening import Screen
from safelight.types import Verdict

_SPARED = "a negative prompt says what to stay away from, so csae alone is decisive in it"

# The scales that weigh the negative prompt by 1 - s.
_SCALES = frozenset(
    {"guidance_scale", "guidance_scale_2", "guidance_schedule", "true_cfg_scale", "prior_guidance_scale"}
)
_IMAGE_SCALES = frozenset({"image_guidance_scale", "img_guidance_scale"})
# "(word:-1)", "word::-0.5", "(word)-1" and "blend(1, -1)": weights below 0 turn what they stand at around.
_MINUS = "[-\u2010-\u2015\u2212\ufe63\uff0d]"
_NEGATIVE_WEIGHT = re.compile(
    rf"[:\uff1a]\s*{_MINUS}\s*\.?\d|\)\s*{_MINUS}\s*\.?\d|\.(?:blend|and)\s*\([^)]*{_MINUS}\s*\.?\d"
)


def screened_texts(screen: Screen, name: str, texts: Sequence[str], turned: str | None) -> list[Verdict]:
    """Return one verdict for each text of the argument ``name``; ``turned`` is why negative prompts count as
    prompts."""
    if not is_negative_prompt(name):
        return screen(texts, name)
    if turned:
        note = f"screened as a prompt, because {turned}"
        return [replace(verdict, notes=(*verdict.notes, note)) for verdict in screen(texts, name)]
    lenient = Screen(
        screen.stage, _sparing(screen.policy), [partial(_self, f) for f in screen.filters.values()]
    )
    return [_explained(verdict, screen.policy) for verdict in lenient(texts, name)]


def _sparing(policy: Policy) -> Policy:
    """Return the policy without any thresholds: what remains is csae, which no policy can change."""
    return policy.model_copy(update={"categories": {}})


def _self(value: Any) -> Any:
    return value


def _explained(verdict: Verdict, policy: Policy) -> Verdict:
    strict = policy.judge(verdict.stage, verdict.findings).action
    return replace(verdict, notes=(*verdict.notes, _SPARED)) if strict > verdict.action else verdict


def turned_round(
    pipe: Any, arguments: Mapping[str, Any], texts: Mapping[str, Sequence[str]], prompts: Sequence[str]
) -> str | None:
    """Return why the pipeline may draw what a negative prompt says; None if it stays away from it."""
    negative = [text for name, some in texts.items() if is_negative_prompt(name) for text in some]
    if not negative:
        return None
    if not all(map(_says_something, prompts)):
        return "a prompt is empty"
    if any(map(_NEGATIVE_WEIGHT.search, [*prompts, *negative])):
        return "a word has a negative weight"
    return _turning_number({**_defaults(pipe), **arguments})


def _says_something(prompt: str) -> bool:
    """Whether the prompt is more than punctuation, spaces and marks; emoji say something."""
    return any(unicodedata.category(each)[0] in "LN" or unicodedata.category(each) == "So" for each in prompt)


def _turning_number(arguments: Mapping[str, Any]) -> str | None:
    for name, value in arguments.items():
        for number in _numbers(value) if is_number(name) else ():
            below_one = name in _SCALES and not number >= 1
            rescaled = name.endswith("guidance_rescale") and not 0 <= number <= 1
            if below_one or rescaled or ("scale" in name and not number >= 0):
                return f"{name} is {number:g}"
    return _image_over_text(arguments)


def _image_over_text(arguments: Mapping[str, Any]) -> str | None:
    """With a scale for the image as well, its part of the guidance reads the negative prompt: its weight is
    the difference of the two scales."""
    text = min(_numbers(arguments.get("guidance_scale")), default=math.inf)
    for name in _IMAGE_SCALES & arguments.keys():
        if any(not number <= text for number in _numbers(arguments[name])):
            return f"{name} is above guidance_scale"
    return None


def _numbers(value: Any) -> Iterator[float]:
    """Yield the numbers in lists; true and false are none."""
    if isinstance(value, list | tuple):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def _defaults(pipe: Any) -> dict[str, Any]:
    """Return what the pipeline takes for arguments that a call does not name."""
    try:
        parameters = inspect.signature(pipe).parameters
    except (TypeError, ValueError):
        return {}
    return {name: each.default for name, each in parameters.items() if is_number(name)}
