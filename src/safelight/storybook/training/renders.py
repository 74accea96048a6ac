"""Renders: scenes drawn once on all cores and cached on disk, so that every training uses the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from safelight.storage.atomic_write import atomic_write
from safelight.storybook.scene import SIZE_PX, Scene, Storybook
from safelight.training.processes import processes

SHARD = 5_000


@dataclass(frozen=True)
class Truth:
    """The ground truth of one scene for training. Boxes are shares of the image.

    ``unnamed`` is the number of associated objects, which no caption mentions; ``relations`` are between the
    other objects; ``setting`` is "crime scene", "party" or empty.
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


class Images:
    """The first ``count`` images of ``shards``, (64, 64, 3) uint8 each, memory-mapped from disk."""

    def __init__(self, shards: Sequence[Path], count: int) -> None:
        self._shards = [np.load(path, mmap_mode="r") for path in shards]
        self._count = count

    def __len__(self) -> int:
        return self._count

    def images(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Return the images as an RGB array (len(indices), 64, 64, 3)."""
        return np.stack([self._shards[i // SHARD][i % SHARD] for i in indices])


class Renders(Images):
    """The images and truths of the first ``count`` scenes of a storybook seed."""

    def __init__(self, folder: Path, seed: int, count: int) -> None:
        shards = render(folder, seed, count)
        super().__init__(shards, count)
        self.truths = [truth for path in shards for truth in _read_truths(path)][:count]

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """Yield the indices of batches without end, shuffled again in every epoch."""
        while True:
            order = rng.permutation(len(self))
            for start in range(0, len(order) - size + 1, size):
                yield order[start : start + size]


def render(folder: Path, seed: int, count: int) -> list[Path]:
    """Draw the first ``count`` scenes of ``seed`` in whole shards; existing shards are kept."""
    return make_shards(folder, "renders", seed, count, _render_shard)


def make_shards(
    folder: Path, name: str, seed: int, count: int, make: Callable[[Path, int, int], None]
) -> list[Path]:
    """Return the shards of the first ``count`` images; missing ones are made on all cores.

    ``make(file, seed, shard)`` makes one shard, whose file name starts with ``name``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}-{seed}-{shard:03d}.npy" for shard in range(-(-count // SHARD))]
    missing = [(path, seed, shard) for shard, path in enumerate(paths) if not path.exists()]
    workers = min(processes(), len(missing))
    if workers < 2:
        for job in missing:
            make(*job)
        return paths
    # A forked process could deadlock on a lock that a thread of this process holds.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(make, *job) for job in missing]:
            done.result()
    return paths


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array to a file atomically."""
    with atomic_write(path) as part, part.open("wb") as file:
        np.save(file, array)


def _render_shard(path: Path, seed: int, shard: int) -> None:
    images = np.empty((SHARD, SIZE_PX, SIZE_PX, 3), np.uint8)
    truths = []
    for row, scene in enumerate(Storybook(seed).scenes(SHARD, start=shard * SHARD)):
        images[row] = np.asarray(scene.image)
        truths.append(_truth(scene))
    path.with_suffix(".json").write_bytes(_TRUTHS.dump_json(truths))
    save_array(path, images)


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
