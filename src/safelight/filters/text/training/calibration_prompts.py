"""Prompts on which no classifier is trained: its scores are calibrated on them, and thresholds chosen.

Five authors wrote a third each harmful, ordinary, and harmless but harmful-sounding prompts
(``calibration_prompts.txt``); two others wrote harmless prompts of many kinds ("mixed").
"""

from __future__ import annotations

from pathlib import Path

from safelight.filters.text.training.grammar import Text
from safelight.storage.packaged_files import read_text

_FILE = Path(__file__).with_name("calibration_prompts.txt")
_NONE = "-"


def calibration_prompts() -> list[Text]:
    """Return the prompts; their family is their kind: "harmful", "ordinary", "scary" or "mixed"."""
    texts = []
    for line in read_text(_FILE).splitlines():
        if not line.startswith("#"):
            kind, categories, prompt = line.split("\t")
            named = frozenset(() if categories == _NONE else categories.split(","))
            texts.append(Text(prompt, named, kind, precise=True))
    return texts
