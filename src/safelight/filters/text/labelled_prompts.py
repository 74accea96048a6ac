"""Prompts with labels, read from a packaged table: group, categories and prompt, separated by tabs."""

from __future__ import annotations

from collections.abc import Iterator
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
    return [
        LabelledPrompt(prompt, named_categories(cell), group)
        for group, cell, prompt in read_packaged_rows(path)
    ]


def read_packaged_rows(path: Path) -> Iterator[list[str]]:
    """Yield the cells of each line of a packaged table. Raises ``ModelError`` as above."""
    for line in read_text(path).splitlines():
        if not line.startswith("#"):
            yield line.split("\t")


def named_categories(cell: str) -> tuple[str, ...]:
    """Return the categories that a cell of such a table names; "-" is for none."""
    return () if cell == _NONE else tuple(cell.split(","))
