"""Renders: scenes drawn once by all cores and kept on disk, so that every training reads the same."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from safelight.storybook.scene import SIZE_PX, Scene, Storybook

SHARD = 5_000


@dataclass(frozen=True)
class Truth:
    """What a training needs to know of one scene. Boxes are shares of the picture.

    ``unnamed`` is the number of associated objects, which no caption mentions; ``relations`` are those
    between the others; ``setting`` is a crime scene, a party or nothing.
    """

    objects: tuple[str, ...]
    boxes: tuple[tuple[float, float, float, float], ...]
    place: str
    style: str
    captions: tuple[str, ...]
    relations: tuple[str, ...] = ()
    setting: str = ""
    unnamed: int = 0


_TRUTHS = TypeAdapter(list[Truth])


class Renders:
    """``count`` scenes of one storybook seed: pictures (N, 64, 64, 3) uint8, mapped from disk, and truths."""

    def __init__(self, folder: Path, seed: int, count: int) -> None:
        shards = render(folder, seed, count)
        self._pictures = [np.load(path, mmap_mode="r") for path in shards]
        self.truths = [truth for path in shards for truth in _read_truths(path)][:count]

    def __len__(self) -> int:
        return len(self.truths)

    def pictures(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """(len(indices), 64, 64, 3) RGB."""
        return np.stack([self._pictures[i // SHARD][i % SHARD] for i in indices])

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """Indices of batch after batch, each pass in a new order, without end."""
        while True:
            order = rng.permutation(len(self))
            for start in range(0, len(order) - size + 1, size):
                yield order[start : start + size]


def render(folder: Path, seed: int, count: int) -> list[Path]:
    """Draw the first ``count`` scenes of ``seed`` in whole shards; shards already there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = -(-count // SHARD)
    paths = [folder / f"renders-{seed}-{shard:03d}.npy" for shard in range(shards)]
    missing = [(path, seed, shard) for shard, path in enumerate(paths) if not path.exists()]
    if missing:
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_render_shard, missing))
    return paths


def _render_shard(job: tuple[Path, int, int]) -> None:
    path, seed, shard = job
    pictures = np.empty((SHARD, SIZE_PX, SIZE_PX, 3), np.uint8)
    truths = []
    for row, scene in enumerate(Storybook(seed).scenes(SHARD, start=shard * SHARD)):
        pictures[row] = np.asarray(scene.image)
        truths.append(_truth(scene))
    path.with_suffix(".json").write_bytes(_TRUTHS.dump_json(truths))
    part = path.with_suffix(".part.npy")
    np.save(part, pictures)
    part.replace(path)


def _truth(scene: Scene) -> Truth:
    unnamed = scene.plan.unnamed
    return Truth(
        scene.objects,
        scene.boxes,
        scene.place,
        scene.style,
        scene.captions[1:] if unnamed else scene.captions,
        tuple(r.name for r in scene.relations if not unnamed & {r.subject, r.target}),
        scene.plan.setting,
        len(unnamed),
    )


def _read_truths(path: Path) -> list[Truth]:
    return _TRUTHS.validate_json(path.with_suffix(".json").read_bytes())
