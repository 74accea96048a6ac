"""Time of an image in NudeNet here, in NudeNet's own package, and in the storybook's filter.

Images a second are of the median round; rounds of all readers take turns, so that neighbours on the machine
slow them alike. Each reader starts from the same JPEG files. NudeNet makes boxes only where something was
found, so the images of that kind are measured for themselves too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from photographs import write_photographs
from safelight.filters.image.nudenet import NudeNet
from safelight.filters.image.storybook import StorybookImage
from safelight.storybook import Storybook
from timing import cores, seconds

_IMAGES, _SIZE, _ROUNDS, _CORES, _ALONE = 100, (640, 480), 7, 2, 51

_OURS = "NudeNet"

Reader = Callable[[Sequence[str]], list[Any]]


def measure() -> tuple[dict[str, Any], dict[str, float | None]]:
    """Images a second of many JPEGs, then milliseconds of one image in memory (medians)."""
    with cores(_CORES), tempfile.TemporaryDirectory() as folder:
        paths = write_photographs(Path(folder), _IMAGES, _SIZE)
        readers = _readers()
        found = [path for path, findings in zip(paths, readers[_OURS](paths), strict=True) if findings]
        speeds = _speeds(readers, paths) | {
            f"{name}, something found": value for name, value in _speeds(readers, found).items()
        }
        alone = _alone(paths)
    run = {"images": _IMAGES, "size": _SIZE, "rounds": _ROUNDS, "cores": _CORES, "alone": _ALONE}
    return run | {"something found": len(found)}, speeds | alone


def _speeds(readers: Mapping[str, Reader], paths: Sequence[str]) -> dict[str, float | None]:
    times_of = _take_turns(readers, paths)
    ours = times_of[_OURS]
    return {
        **{f"{name}: images a second": len(paths) / median(times) for name, times in times_of.items()},
        **{
            f"{_OURS} / {name}": median(theirs / mine for theirs, mine in zip(times, ours, strict=True))
            for name, times in times_of.items()
            if name != _OURS
        },
    }


def _readers() -> dict[str, Reader]:
    from nudenet import NudeDetector

    nudenet, package = NudeNet(), NudeDetector()
    return {
        _OURS: lambda paths: nudenet.find([Image.open(path) for path in paths]),
        "the package's detect": lambda paths: [package.detect(path) for path in paths],
        "the package's detect_batch": package.detect_batch,
    }


def _take_turns(readers: Mapping[str, Reader], paths: Sequence[str]) -> dict[str, list[float]]:
    """Seconds of each round of each reader."""
    times: dict[str, list[float]] = {name: [] for name in readers}
    for reader in readers.values():
        reader(paths[:4])
    for _ in range(_ROUNDS):
        for name, reader in readers.items():
            times[name].append(seconds(lambda reader=reader: reader(paths)))  # type: ignore[misc]
    return times


def _alone(paths: Sequence[str]) -> dict[str, float]:
    nudenet, storybook = NudeNet(), StorybookImage()
    photographs = [Image.open(path).resize((512, 512)) for path in paths[:_ALONE]]
    scenes = [scene.image for scene in Storybook(seed=0).scenes(_ALONE)]
    return {
        "NudeNet, one image of 512 × 512: ms": _milliseconds(nudenet.find, photographs),
        "storybook-image, one image of 64 × 64: ms": _milliseconds(storybook.find, scenes),
    }


def _milliseconds(find: Callable[[Sequence[Image.Image]], object], images: Sequence[Image.Image]) -> float:
    find(images[:1])
    return 1000 * median(seconds(lambda image=image: find([image])) for image in images)  # type: ignore[misc]
