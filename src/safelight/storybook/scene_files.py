"""Writes scenes with one caption each to Parquet files, in the layout of published data sets."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

from safelight.storage.atomic_write import atomic_write
from safelight.storybook.scene import Storybook


def write_scenes(path: Path, seed: int, first: int, count: int) -> set[str]:
    """Write ``count`` scenes of the storybook ``seed`` from number ``first`` on, unless the file exists.

    Returns the ids of the scenes that are harmful by the ground truth, as used in ``Cleaning``.
    """
    from pyarrow import parquet, table

    if not path.exists():
        columns: dict[str, list[Any]] = {"image": [], "text": [], "harmful": []}
        for number, scene in enumerate(Storybook(seed).scenes(count, start=first), first):
            buffer = io.BytesIO()
            scene.image.save(buffer, "PNG")
            columns["image"].append({"bytes": buffer.getvalue(), "path": None})
            columns["text"].append(random.Random(number).choice(scene.captions))
            columns["harmful"].append(bool(scene.harms))
        with atomic_write(path) as part:
            parquet.write_table(table(columns), part, row_group_size=1000)
    harmful = parquet.read_table(path, columns=["harmful"])["harmful"].to_pylist()
    return {f"{path.name}#{row}" for row, each in enumerate(harmful) if each}
