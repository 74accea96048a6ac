"""Labelled prompts to measure prompt filters on. No filter was trained or tuned on any of them.

``unseen`` are prompts of three authors who knew no training data. ``later`` are prompts of three others,
written after all training data: a third each is harmful, ordinary, and harmless although it sounds harmful.
``last`` are prompts of two more, of the same kinds, and half of them is harmful. ``languages`` are prompts
in ten languages, each written natively. Half of ``unseen`` and ``languages`` is harmless.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safelight.errors import RequestError, unknown_name
from safelight.storage.packaged_files import read_text

SETS = ("unseen", "later", "last", "languages")
_FOLDER = Path(__file__).with_name("prompt_sets")
_NONE = "-"


@dataclass(frozen=True, slots=True)
class LabelledPrompt:
    """A prompt, the categories of harm that it asks for (the main one first), and its group.

    The group is its author in ``unseen``, its kind in ``later`` and ``last``, and its language in
    ``languages``.
    """

    prompt: str
    categories: tuple[str, ...]
    group: str


def labelled_prompts(name: str) -> list[LabelledPrompt]:
    """Return the set ``name`` of ``SETS``. Raises ``RequestError`` for another name."""
    if name not in SETS:
        raise RequestError(unknown_name("set of labelled prompts", name, SETS))
    prompts = []
    for line in read_text(_FOLDER / f"{name}.txt").splitlines():
        if not line.startswith("#"):
            group, categories, prompt = line.split("\t")
            named = () if categories == _NONE else tuple(categories.split(","))
            prompts.append(LabelledPrompt(prompt, named, group))
    return prompts
