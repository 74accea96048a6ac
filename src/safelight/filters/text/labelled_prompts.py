"""Prompts with labels, read from a packaged table: group, categories and prompt, separated by tabs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safelight.storage.packaged_files import read_text

_NONE = "-"


@dataclass(frozen=True, slots=True)
class LabelledPrompt:
    """A prompt, the categories of harm that it asks for (the main one first), and its group.

    The group is its kind, its author or its language, depending on the table.
    """

    prompt: str
    categories: tuple[str, ...]
    group: str


def read_labelled_prompts(path: Path) -> list[LabelledPrompt]:
    """Return the prompts of a packaged table. Raises ``ModelError`` if it was altered or is missing."""
    prompts = []
    for line in read_text(path).splitlines():
        if not line.startswith("#"):
            group, categories, prompt = line.split("\t")
            named = () if categories == _NONE else tuple(categories.split(","))
            prompts.append(LabelledPrompt(prompt, named, group))
    return prompts
