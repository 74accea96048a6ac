"""Throughput of cleaning beside decoding and filtering alone, the nudenet package, and Ray.

Everything in one run on the same cores. The time of a cleaning is that of the whole, from nothing to the
findings of the last sample, and so holds what it takes to start workers and to load the filter.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from photographs import NUDENET, write_photographs
from safelight.guard.guard import Guard
from safelight.images import open_image
from safelight.safe_training.cleaning import Cleaning, run_local, shards_of
from safelight.safe_training.cleaning.cleaning import Engine
from safelight.safe_training.cleaning.engines.ray import run_ray
from timing import cores, seconds

_IMAGES, _SIZE, _CORES, _IN_MEMORY, _ROUNDS = 8000, (640, 480), 2, 100, 2


def measure() -> tuple[dict[str, Any], dict[str, float | None]]:
    """Images a second, medians of rounds in which all take turns; ratios are medians of the rounds'."""
    with cores(_CORES), tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "images").mkdir()
        paths = write_photographs(folder / "images", _IMAGES, _SIZE)
        rounds = [_rates(folder, number, paths) for number in range(_ROUNDS)]
    ratios = [_ratios(rates) for rates in rounds]
    figures: dict[str, float | None] = {
        f"{name}: images a second": median(rates[name] for rates in rounds) for name in rounds[0]
    }
    figures |= {name: median(each[name] for each in ratios) for name in ratios[0]}
    return {"images": _IMAGES, "size": _SIZE, "cores": _CORES, "rounds": _ROUNDS}, figures


def _rates(folder: Path, number: int, paths: Sequence[str]) -> dict[str, float]:
    """Every other round goes backwards: what the machine gains or loses meanwhile decides no ratio."""

    def cleaned(engine: Any, workers: int) -> float:
        name = f"{engine.__name__}-{workers}-{number}"
        return _cleaned(folder, name, lambda task, shards, tell: engine(task, shards, workers, tell))

    turns: list[tuple[str, Callable[[], float]]] = [
        ("decoding alone", lambda: _alone(_decode, paths)),
        ("looking alone", lambda: _alone(_look, paths)),
        ("two workers", lambda: cleaned(run_local, 2)),
        ("one worker", lambda: cleaned(run_local, 1)),
        ("Ray, two workers", lambda: cleaned(run_ray, 2)),
        ("the package's detect_batch", lambda: _package(paths)),
    ]
    return {name: rate() for name, rate in (turns if number % 2 else reversed(turns))}


def _ratios(rates: Mapping[str, float]) -> dict[str, float]:
    both = 1 / (1 / rates["decoding alone"] + 1 / rates["looking alone"])
    ours = rates["two workers"]
    return {
        "two workers / decoding and looking": ours / both,
        "two workers / the package's detect_batch": ours / rates["the package's detect_batch"],
        "two workers / one worker": ours / rates["one worker"],
        "Ray / local, two workers": rates["Ray, two workers"] / ours,
    }


def _cleaned(folder: Path, name: str, engine: Engine) -> float:
    cleaning = Cleaning(folder / name)
    shards = partial(shards_of, str(folder / "images"))
    screens = partial(Guard.from_policy, NUDENET)
    return _IMAGES / seconds(lambda: cleaning.screen(shards, screens, {}, engine))


def _alone(work: Callable[[Sequence[str], Any, Any], None], paths: Sequence[str]) -> float:
    """In a process for each core, from when all are ready until all are done."""
    context = multiprocessing.get_context("spawn")
    ready, done = context.Barrier(_CORES + 1), context.Barrier(_CORES + 1)
    team = [context.Process(target=work, args=(paths[place::_CORES], ready, done)) for place in range(_CORES)]
    for each in team:
        each.start()
    ready.wait()
    took = seconds(done.wait)
    for each in team:
        each.join()
    return len(paths) / took


def _decode(paths: Sequence[str], ready: Any, done: Any) -> None:
    ready.wait()
    for path in paths:
        next(iter(open_image(Path(path).read_bytes())))
    done.wait()


def _look(paths: Sequence[str], ready: Any, done: Any) -> None:
    """At images in memory, some of them again and again."""
    from safelight.filters.image.nudenet import NudeNet

    filter_, images = NudeNet(threads=1), [Image.open(path).convert("RGB") for path in paths[:_IN_MEMORY]]
    filter_.find(images[:2])
    ready.wait()
    for start in range(0, len(paths), _IN_MEMORY):
        filter_.find(images[: min(_IN_MEMORY, len(paths) - start)])
    done.wait()


def _package(paths: Sequence[str]) -> float:
    """As its README has it: one after the other in batches, on all cores by ONNX Runtime's threads."""
    from nudenet import NudeDetector

    detector = NudeDetector()
    detector.detect_batch(list(paths[:4]))
    return len(paths) / seconds(
        lambda: [detector.detect_batch(list(paths[i : i + 32]), 4) for i in range(0, len(paths), 32)]
    )
