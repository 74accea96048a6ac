"""Memory that cleaning needs, and what it writes, for a thousand and for a hundred thousand samples.

And how fast it decides again.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil

import cleaning
from safelight.policy import Policy
from safelight.safe_training.cleaning import Cleaning
from timing import seconds

SHARD, WORKERS = 250, 2
_SHARDS = (4, 40, 400)
_EVERY_S = 0.05


def measure() -> tuple[dict[str, Any], dict[str, float | None]]:
    """The shards are the same file, 250 scenes, under other names: so every sample is one of its own.

    Memory is the most that the command and its workers had at once, without what they share.
    """
    figures: dict[str, float | None] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "one").mkdir()
        cleaning.write_tar(folder / "one", list(cleaning.samples([], SHARD)))
        (shard,) = (folder / "one").glob("*.tar")
        for count in _SHARDS:
            out, samples = folder / f"{count}-out", count * SHARD
            figures |= cleaned(shard, count, folder / f"{count}", out, "storybook")
            again = partial(Cleaning(out).sort, Policy.load("storybook"), folder / f"{count}-again")
            figures |= {
                f"{samples}: decided again, samples a second": samples / seconds(again),
                f"{samples}: bytes written a sample": _size(out, "**/*") / samples,
                f"{samples}: of them in the two tables": _size(out, "*.parquet") / samples,
            }
    return {"workers": WORKERS, "policy": "storybook", "in a shard": SHARD}, figures | growth(
        figures, _SHARDS
    )


def cleaned(shard: Path, count: int, source: Path, out: Path, policy: str) -> dict[str, float | None]:
    """Return the memory and time that it takes to clean ``shard`` under ``count`` names in ``source``."""
    source.mkdir()
    for number in range(count):
        (source / f"{number:05}.tar").hardlink_to(shard)
    command = [*cleaning.command(source, out, policy), "--workers", str(WORKERS)]
    peak, took = _watched(command)
    samples = json.loads((out / "summary.json").read_text())["samples"]
    assert samples == count * SHARD
    return {f"{samples}: MiB at most": peak / 2**20, f"{samples}: samples a second": samples / took}


def growth(figures: Mapping[str, float | None], shards: Sequence[int]) -> dict[str, float | None]:
    """From the first of ``shards`` to the last."""
    fewest, most = shards[0] * SHARD, shards[-1] * SHARD
    least, greatest = (figures[f"{samples}: MiB at most"] for samples in (fewest, most))
    assert least
    assert greatest
    return {f"memory of {most} / of {fewest}": greatest / least}


def _watched(command: list[str]) -> tuple[int, float]:
    """Bytes at most, and seconds."""
    started, peak = time.perf_counter(), 0
    program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while program.poll() is None:
        with suppress(psutil.NoSuchProcess):
            family = [first := psutil.Process(program.pid), *first.children(recursive=True)]
            peak = max(peak, sum(_own(each) for each in family))
        time.sleep(_EVERY_S)
    if program.returncode:
        raise subprocess.CalledProcessError(program.returncode, command)
    return peak, time.perf_counter() - started


def _size(folder: Path, files: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(files) if path.is_file())


def _own(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().uss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
