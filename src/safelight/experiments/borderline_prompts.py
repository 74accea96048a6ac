"""Harmless prompts that sound harmful (``prompts/borderline.txt``), written by hand and never trained on."""

from __future__ import annotations

from pathlib import Path


def borderline_prompts() -> list[str]:
    lines = Path(__file__).with_name("prompts").joinpath("borderline.txt").read_text("utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]
