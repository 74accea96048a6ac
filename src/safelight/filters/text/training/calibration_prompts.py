"""Prompts on which no classifier is trained: its scores are calibrated on them, and thresholds chosen.

Five authors wrote a third each harmful, ordinary, and harmless but harmful-sounding prompts
(``calibration_prompts.txt``); two others wrote harmless prompts of many kinds ("mixed").
"""

from __future__ import annotations

from pathlib import Path

from safelight.filters.text.labelled_prompts import LabelledPrompt, read_labelled_prompts

_FILE = Path(__file__).with_name("calibration_prompts.txt")


def calibration_prompts() -> list[LabelledPrompt]:
    """Return the prompts; their group is their kind: "harmful", "ordinary", "scary" or "mixed"."""
    return read_labelled_prompts(_FILE)
