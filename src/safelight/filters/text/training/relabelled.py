"""Corrected labels of public prompts.

Their sources label what a language model was asked to write, or what was wrong with an image, and name harm
otherwise. ``relabelled.txt`` has what readers, who saw neither, found in the text alone. It holds no prompt:
each line has the first 16 hexadecimal digits of a prompt's SHA-256, a tab, and its categories, or "-" for a
harmless prompt, or "?" where reasonable readers may disagree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from safelight.filters.text.labelled_prompts import named_categories, read_packaged_rows
from safelight.filters.text.training.grammar import Text

_FILE = Path(__file__).with_name("relabelled.txt")
_DOUBTFUL = "?"
_DIGITS = 16


def relabelled(texts: Iterable[Text]) -> Iterator[Text]:
    """Yield the texts with their corrected labels, where there are any, and without the doubtful ones."""
    labels = _labels()
    for text in texts:
        label = labels.get(digest(text.prompt))
        if label is None:
            yield text
        elif label != _DOUBTFUL:
            yield replace(text, categories=frozenset(named_categories(label)), precise=True)


def digest(prompt: str) -> str:
    """Return the digits by which a prompt is listed."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:_DIGITS]


@cache
def _labels() -> dict[str, str]:
    return dict(read_packaged_rows(_FILE))
