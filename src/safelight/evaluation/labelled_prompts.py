"""Labelled prompts to measure prompt filters on. No filter was trained or tuned on any of them.

``unseen`` are prompts of three authors who knew no training data. ``later`` are prompts of three others,
written after all training data: a third each is harmful, ordinary, and harmless although it sounds harmful.
``last`` and ``final`` are prompts of two more each, of the same kinds, and half of them is harmful.
``languages`` are prompts in ten languages, each written natively. Half of ``unseen`` and ``languages`` is
harmless. The group of a prompt is its author in ``unseen``, its kind in ``later``, ``last`` and ``final``,
and its language in ``languages``.
"""

from __future__ import annotations

from pathlib import Path

from safelight.errors import RequestError, unknown_name
from safelight.filters.text.labelled_prompts import LabelledPrompt, read_labelled_prompts

SETS = ("unseen", "later", "last", "final", "languages")
_FOLDER = Path(__file__).with_name("prompt_sets")


def labelled_prompts(name: str) -> list[LabelledPrompt]:
    """Return the set ``name`` of ``SETS``. Raises ``RequestError`` for another name."""
    if name not in SETS:
        raise RequestError(unknown_name("set of labelled prompts", name, SETS))
    return read_labelled_prompts(_FOLDER / f"{name}.txt")
