"""Memory that cleaning with NudeNet needs, for a thousand and for a hundred thousand photographs."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import Any

from cleaning_memory import SHARD, WORKERS, cleaned, growth
from photographs import NUDENET, write_photographs

_SHARDS, _SIZE = (4, 400), (640, 480)


def measure() -> tuple[dict[str, Any], dict[str, float | None]]:
    """As ``cleaning_memory`` does, of 250 photographs instead of scenes."""
    figures: dict[str, float | None] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "images").mkdir()
        with tarfile.open(shard := folder / "shard.tar", "w") as archive:
            for path in write_photographs(folder / "images", SHARD, _SIZE):
                archive.add(path, Path(path).name)
        for count in _SHARDS:
            out = folder / f"{count}-out"
            figures |= cleaned(shard, count, folder / f"{count}", out, str(NUDENET))
    run = {"workers": WORKERS, "size": _SIZE, "policy": NUDENET.name, "in a shard": SHARD}
    return run, figures | growth(figures, _SHARDS)
