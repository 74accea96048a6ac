"""Reads the prompts that were written for training one by one (``written/``).

Most of them are pairs of a harmful prompt and a harmless counterpart that differs from it in as little as
makes it harmless.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from safelight.filters.text.labelled_prompts import named_categories, read_packaged_rows
from safelight.filters.text.training.grammar import Text

FAMILY = "written"
_FOLDER = Path(__file__).with_name("written")


@dataclass(frozen=True, slots=True)
class WrittenPrompt:
    """A written prompt.

    ``topic`` and ``pair`` are the same for a prompt and its counterpart. ``register`` is the kind of text,
    such as "tags" or "news". ``severity`` is 0 for harmless prompts, 1 for borderline, 2 for clear and 3 for
    severe harm.
    """

    topic: str
    pair: int
    register: str
    severity: int
    text: Text


LANGUAGES = ("de", "fr", "es", "pt", "it", "ru", "zh", "ja", "ar", "hi")


def read_written(language: str = "en") -> Iterator[WrittenPrompt]:
    """Yield all written prompts in a language, "en" or one of ``LANGUAGES``.

    The topic of prompts in other languages than English is the language. Raises ``ModelError`` if one of the
    files was altered or is missing.
    """
    english = sorted(_FOLDER.glob("*.txt"))
    for path in english if language == "en" else [_FOLDER / "languages" / f"{language}.txt"]:
        for pair, register, severity, categories, prompt in read_packaged_rows(path):
            text = Text(prompt, frozenset(named_categories(categories)), FAMILY, precise=True)
            yield WrittenPrompt(path.stem, int(pair), register, int(severity), text)
