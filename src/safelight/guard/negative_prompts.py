"""Screening of negative prompts, depending on the sign of their effect on the image.

Classifier-free guidance computes ε = ε₀ + s (εₚ − ε₀), where ε₀ comes from the negative prompt: its weight is
1 − s. At a guidance scale s above 1 that weight is negative, and the image moves away from the negative
prompt, so naming harm in it is harmless. Below 1, and wherever else the sign may change, the image moves
towards the negative prompt, which is then screened as a prompt. The category csae is never allowed in either.
"""

from __future__ import annotations

import inspect
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

from safelight.guard.arguments import is_negative_prompt, is_number
from safelight.policy import Policy
from safelight.screening.screen import Screen
from safelight.types import Verdict

_ONLY_CSAE = "a negative prompt names what the image should not show, so only csae can block it"

# The scales s for which the negative prompt has the weight 1 - s.
_SCALES = frozenset(
    {"guidance_scale", "guidance_scale_2", "guidance_schedule", "true_cfg_scale", "prior_guidance_scale"}
)
# The scales of guidance by an input image or by attention. Their terms read the negative prompt too, and
# above the guidance scale they may outweigh the term that moves the image away from it.
_OTHER_SCALES = frozenset({"image_guidance_scale", "img_guidance_scale", "sag_scale"})
# "(word:-1)", "word::-0.5", "(word)-1" and "blend(1, -1)": a weight below 0 reverses the effect of its text.
_BLANKS = "\u115f\u1160\u2800\u3164\uffa0"  # letters and symbols that look like spaces
_MINUS = "[-\u2010-\u2015\u2212\ufe63\uff0d]"
_NEGATIVE_WEIGHT = re.compile(rf"[:\uff1a)]\s*{_MINUS}\s*\.?\d")
_MIXTURE = re.compile(r"\.(?:blend|and)\s*\(")
_NEGATIVE_SHARE = re.compile(rf"[(,]\s*{_MINUS}\s*\.?\d")


def screened_texts(
    screen: Screen, name: str, texts: Sequence[str], reversed_by: str | None, **options: Any
) -> list[Verdict]:
    """Return one verdict for each text of the argument ``name``.

    ``reversed_by`` is the reason why negative prompts are screened as prompts, None if they are not;
    ``options`` are passed to the screen.
    """
    if not is_negative_prompt(name):
        return screen(texts, name, **options)
    if reversed_by:
        note = f"screened as a prompt, because {reversed_by}"
        return [replace(each, notes=(*each.notes, note)) for each in screen(texts, name, **options)]
    return [_explained(each, screen.policy) for each in _csae_only(screen)(texts, name, **options)]


def _csae_only(screen: Screen) -> Screen:
    """Return a screen with the same filters and a policy without thresholds, which still blocks csae."""
    screen.load()
    lenient = copy(screen)
    lenient.policy = screen.policy.model_copy(update={"categories": {}})
    return lenient


def _explained(verdict: Verdict, policy: Policy) -> Verdict:
    strict = policy.judge(verdict.stage, verdict.findings).action
    return replace(verdict, notes=(*verdict.notes, _ONLY_CSAE)) if strict > verdict.action else verdict


def reversed_because(
    pipe: Any, arguments: Mapping[str, Any], texts: Mapping[str, Sequence[str]], prompts: Sequence[str]
) -> str | None:
    """Return the reason why images may move towards a negative prompt; None if they move away from it."""
    negative = [text for name, some in texts.items() if is_negative_prompt(name) for text in some]
    if not negative:
        return None
    if not all(map(_has_content, prompts)):
        return "a prompt is empty"
    if any(map(_has_negative_weight, [*prompts, *negative])):
        return "a word has a negative weight"
    return _reversing_number({**_defaults(pipe), **arguments})


def _has_content(prompt: str) -> bool:
    """Whether the prompt has anything but punctuation, spaces and marks; emoji count as content."""
    kinds = (unicodedata.category(each) for each in prompt if each not in _BLANKS)
    return any(kind[0] in "LN" or kind == "So" for kind in kinds)


def _has_negative_weight(text: str) -> bool:
    mixed = _MIXTURE.search(text) and _NEGATIVE_SHARE.search(text)
    return bool(mixed or _NEGATIVE_WEIGHT.search(text))


def _reversing_number(arguments: Mapping[str, Any]) -> str | None:
    for name, value in arguments.items():
        for number in _numbers(value) if is_number(name) else ():
            below_one = name in _SCALES and not number >= 1
            rescaled = name.endswith("guidance_rescale") and not 0 <= number <= 1
            if below_one or rescaled or ("scale" in name and not number >= 0):
                return f"{name} is {number:g}"
    return _above_guidance(arguments)


def _above_guidance(arguments: Mapping[str, Any]) -> str | None:
    least = min(_numbers(arguments.get("guidance_scale")), default=math.inf)
    for name in sorted(_OTHER_SCALES & arguments.keys()):
        if any(not number <= least for number in _numbers(arguments[name])):
            return f"{name} is above guidance_scale"
    return None


def _numbers(value: Any) -> Iterator[float]:
    """Yield the numbers in nested lists, except booleans."""
    if isinstance(value, list | tuple):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def _defaults(pipe: Any) -> dict[str, Any]:
    """Return the pipeline's defaults of the arguments that hold numbers."""
    try:
        parameters = inspect.signature(pipe).parameters
    except (TypeError, ValueError):
        return {}
    return {name: each.default for name, each in parameters.items() if is_number(name)}
