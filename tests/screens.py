"""Screens for training data that workers can make for themselves: quick, or deadly."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from safelight.guard.guard import Guard
from safelight.policy import Policy
from safelight.types import Finding

RED, BLACK = (200, 0, 0), (0, 0, 0)

POLICY = """
name = "colours"
version = "1"

[filters]
prompt = ["lexicon"]
image = ["never"]

[filters.options.lexicon]
words = "storybook"

[categories."weapons"]
prompt = { block = 0.8 }

[categories."violence"]
image = { review = 0.3, block = 0.6 }

[labels]
gun = ["weapons"]
red = ["violence"]
"""


class Colours:
    """Sees how red the first pixel is. At a black one the process dies as in a decoder's native code."""

    name, version, labels = "colours", "1", frozenset({"red"})

    def find(self, images: Sequence[Image.Image]) -> list[list[Finding]]:
        pixels: list[Any] = [image.getpixel((0, 0)) for image in images]
        if BLACK in pixels:
            os.kill(os.getpid(), signal.SIGSEGV)
        return [[Finding("red", red / 255, self.name)] if red else [] for red, *_ in pixels]


def colours(policy: Path) -> Guard:
    from safelight import registry

    loaded = Policy.load(policy)
    words = partial(registry.build, "prompt_filter", "lexicon", name="lexicon", words="storybook")
    return Guard(loaded, {"prompt": [words], "image": [Colours]})


def encoded(colour: tuple[int, int, int], size: int = 8) -> bytes:
    """A PNG of one colour; of another size it is another file."""
    from io import BytesIO

    buffer = BytesIO()
    Image.new("RGB", (size, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()
