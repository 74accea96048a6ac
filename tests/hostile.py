"""A filter that does whatever its prompts say, for a worker process."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from safelight.errors import FilterError
from safelight.types import Box, Concept, Finding, HashMatch, Span


class Hostile:
    """``wrong`` is what it does when it is built."""

    version, labels = "7", frozenset({"gun"})

    def __init__(self, name: str = "hostile", wrong: str = "") -> None:
        self.name = name
        self.find([wrong])

    def find(self, items: Sequence[Any]) -> Any:
        return [self._find(item) for item in items]

    def _find(self, item: Any) -> Any:
        if not isinstance(item, str):
            prompt, image = item if isinstance(item, tuple) else ("", item)
            seen = f"{prompt} {image.mode} {image.size} {image.getpixel((1, 0))} {sorted(image.info.items())}"
            return [Finding(seen, 1.0, self.name)]
        does: dict[str, Callable[[], Any]] = {
            "hang": lambda: time.sleep(600),
            "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
            "leave": lambda: os._exit(3),
            "exit": lambda: sys.exit(4),
            "raise": lambda: 1 // 0,
            "torn": lambda: FilterError("it is torn."),
            "nonsense": lambda: [""],
            "who": lambda: [Finding(str(os.getpid()), 1.0, self.name)],
            "print": lambda: print("x" * 100_000),  # noqa: T201 - as libraries do
            "everything": lambda: [
                Finding("gun", 0.25, self.name, evidence)
                for evidence in (
                    None,
                    Span(0, 3, "gun"),
                    Box(0, 0, 0.5, 1),
                    Concept("gun", 0.1),
                    HashMatch("list", "7", 3),
                )
            ],
        }
        return does.get(item, list)() or []
