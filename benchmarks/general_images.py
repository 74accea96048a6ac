"""Speed of the image filters of the policy general, and of its start."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import safelight
from photographs import write_photographs
from timing import seconds

_COUNT, _SIDE, _AT_ONCE = 192, 512, 32
_START = (
    "import safelight; from PIL import Image; "
    "guard = safelight.Guard.from_policy('general', stages=('image',)).load(); "
    "guard.screen_images([Image.new('RGB', (512, 512))])"
)


def measure() -> tuple[dict[str, Any], dict[str, float | None]]:
    """The images are parts of photographs without text, 512 x 512 pixels, as JPEG files on disk."""
    guard = safelight.Guard.from_policy("general", stages=("image",)).load()
    filters = guard.policy.filters.image
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(path) for path in write_photographs(Path(folder), _COUNT, (_SIDE, _SIDE))]
        costs = {name: _milliseconds(_only(name), paths) for name in filters}
        figures: dict[str, float | None] = {
            "images a second, all cores": 1000 / _milliseconds(guard, paths),
            **{f"{name}: ms an image, all cores": cost for name, cost in costs.items()},
            "start and first image, s": median(_start() for _ in range(5)),
        }
    return {"images": _COUNT, "side": _SIDE, "filters": list(filters)}, figures


def _milliseconds(guard: safelight.Guard, paths: Sequence[Path]) -> float:
    """Return the time for an image, in batches; the first batch, which builds the filters, is not counted."""

    def screen(some: Sequence[Path]) -> None:
        for start in range(0, len(some), _AT_ONCE):
            guard.screen_images(some[start : start + _AT_ONCE])

    screen(paths[:_AT_ONCE])
    return 1000 * seconds(lambda: screen(paths)) / len(paths)


def _only(name: str) -> safelight.Guard:
    """Return a guard by the policy general with one of its image filters."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "only.toml"
        path.write_text(f'extends = "general"\nname = "only"\nversion = "1"\n[filters]\nimage = ["{name}"]\n')
        return safelight.Guard.from_policy(path, stages=("image",))


def _start() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", _START], check=True)
    return time.perf_counter() - begun
