"""Share of planted harmful images that cleaning finds in each format, and what a kill -9 loses."""

from __future__ import annotations

import io
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import ipc, parquet

from safelight.storybook import Storybook

_SCENES, _SEED, _KILLS = 20_000, 4, 10
_IN_SHARD = 1000

# A sample: its number, its image as PNG, its caption.
_Sample = tuple[int, bytes, str]


def measure() -> tuple[dict[str, Any], dict[str, float | None]]:
    figures: dict[str, float | None] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        harmful = _write(folder)
        for form in _FORMS:
            whole = folder / f"{form}-whole"
            _clean(folder / form, whole)
            figures |= {f"{form}: {name}": value for name, value in _compared(whole, harmful).items()}
            kills = _killed(folder / form, folder / f"{form}-killed", random.Random(_SEED))
            same = all(
                (whole / name).read_bytes() == (folder / f"{form}-killed" / name).read_bytes()
                for name in ("kept.parquet", "rejected.parquet")
            )
            figures |= {f"{form}: kills": kills, f"{form}: the same after them, byte for byte": float(same)}
    return {"scenes": _SCENES, "seed": _SEED, "harmful": sum(harmful), "policy": "storybook"}, figures


def samples(harmful: list[bool], count: int = _SCENES) -> Iterator[_Sample]:
    for number, scene in enumerate(Storybook(_SEED).scenes(count)):
        buffer = io.BytesIO()
        scene.image.save(buffer, "PNG")
        harmful.append(bool(scene.harms))
        yield number, buffer.getvalue(), scene.captions[0]


def _write(folder: Path) -> list[bool]:
    """All forms; gives which samples are harmful."""
    harmful: list[bool] = []
    for form in _FORMS:
        (folder / form).mkdir()
    shard: list[_Sample] = []
    for sample in samples(harmful):
        shard.append(sample)
        if len(shard) == _IN_SHARD:
            for form, write in _FORMS.items():
                write(folder / form, shard)
            shard = []
    return harmful


def _write_folder(folder: Path, shard: list[_Sample]) -> None:
    for number, image, caption in shard:
        (folder / f"{number:06}.png").write_bytes(image)
        (folder / f"{number:06}.txt").write_text(caption)


def write_tar(folder: Path, shard: list[_Sample]) -> None:
    with tarfile.open(folder / f"{shard[0][0] // _IN_SHARD:05}.tar", "w") as archive:
        for number, image, caption in shard:
            for suffix, content in (("png", image), ("txt", caption.encode())):
                about = tarfile.TarInfo(f"{number:06}.{suffix}")
                about.size = len(content)
                archive.addfile(about, io.BytesIO(content))


def _table(shard: list[_Sample]) -> pa.Table:
    images = [{"bytes": image, "path": None} for _, image, _ in shard]
    return pa.table({"image": images, "text": [each[2] for each in shard], "id": [each[0] for each in shard]})


def _write_parquet(folder: Path, shard: list[_Sample]) -> None:
    parquet.write_table(_table(shard), folder / f"{shard[0][0] // _IN_SHARD:05}.parquet", row_group_size=500)


def _write_arrow(folder: Path, shard: list[_Sample]) -> None:
    table = _table(shard)
    with ipc.new_stream(folder / f"data-{shard[0][0] // _IN_SHARD:05}.arrow", table.schema) as stream:
        stream.write_table(table, max_chunksize=100)


_FORMS: dict[str, Callable[[Path, list[_Sample]], None]] = {
    "folder": _write_folder,
    "webdataset": write_tar,
    "parquet": _write_parquet,
    "arrow": _write_arrow,
}


def command(source: Path, out: Path, policy: str = "storybook") -> list[str]:
    arguments = ["clean", str(source), "--policy", policy, "--output", str(out)]
    return [sys.executable, "-m", "safelight", *arguments]


def _clean(source: Path, out: Path) -> None:
    subprocess.run(command(source, out), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _killed(source: Path, out: Path, rng: random.Random) -> int:
    """Kills it so often, each time after it has found something more, then lets it end."""
    kills = 0
    while kills < _KILLS:
        program = subprocess.Popen(command(source, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = _found(out)
        while _found(out) == before and program.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 3))
        if program.poll() is not None:
            break
        program.send_signal(signal.SIGKILL)
        program.wait()
        kills += 1
    _clean(source, out)
    return kills


def _found(out: Path) -> int:
    """Bytes."""
    sizes = 0
    for path in out.glob("findings/*"):
        try:
            sizes += path.stat().st_size
        except FileNotFoundError:  # a journal becomes a table
            continue
    return sizes


def _compared(out: Path, harmful: list[bool]) -> dict[str, float | None]:
    kept, rejected = (
        [
            int("".join(filter(str.isdigit, _number(row))))
            for row in parquet.read_table(out / name).to_pylist()
        ]
        for name in ("kept.parquet", "rejected.parquet")
    )
    gone = set(rejected)
    found = sum(harmful[number] for number in gone)
    return {
        "harm recall": found / sum(harmful),
        "false rejections": (len(gone) - found) / (len(harmful) - sum(harmful)),
        "kept, rejected and unreadable are the input": float(
            sorted(kept + rejected) == list(range(len(harmful)))
        ),
    }


def _number(row: dict[str, Any]) -> str:
    """Tables say it as the key, the others in the id."""
    return str(row["key"]) if "#" in row["id"] else str(row["id"]).rpartition("/")[2]
