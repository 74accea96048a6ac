"""``safelight clean`` on scenes of the storybook, whose harm is known exactly."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner, Result

from safelight.cli import app
from safelight.storybook import Storybook

COUNT = 120


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["clean", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for i, scene in enumerate(Storybook(seed=11).scenes(COUNT)):
        scene.image.save(folder / f"{i:04}.png")
        (folder / f"{i:04}.txt").write_text(scene.captions[0])
    return folder


@pytest.fixture(scope="module")
def harmful() -> set[str]:
    return {f"{i:04}.png" for i, scene in enumerate(Storybook(seed=11).scenes(COUNT)) if scene.harms}


@pytest.fixture(scope="module")
def cleaned(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cleaned") / "out"
    done = run(images, "--policy", "storybook", "--output", out, "--workers", "2", "--json")
    assert done.exit_code == 0, done.stderr
    return out


def _table(path: Path) -> list[dict[str, Any]]:
    return list(parquet.read_table(path).to_pylist())


def test_harmful_samples_are_rejected_and_harmless_ones_kept(cleaned: Path, harmful: set[str]) -> None:
    kept = {row["id"] for row in _table(cleaned / "kept.parquet")}
    rejected = {row["id"] for row in _table(cleaned / "rejected.parquet")}
    assert len(kept) + len(rejected) == COUNT
    assert len(harmful) > 15
    assert len(kept & harmful) <= 1
    assert len(rejected - harmful) <= 1


def test_parquet_gives_the_same_as_the_folder(images: Path, cleaned: Path, tmp_path: Path) -> None:
    rows = [
        {"image": p.read_bytes(), "text": p.with_suffix(".txt").read_text()}
        for p in sorted(images.glob("*.png"))
    ]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=50)
    done = run(tmp_path / "a.parquet", "--policy", "storybook", "--output", tmp_path / "out", "--json")
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    summary = json.loads((cleaned / "summary.json").read_text())
    assert {key: said[key] for key in ("samples", "kept", "rejected")} == {
        key: summary[key] for key in ("samples", "kept", "rejected")
    }


def test_a_folder_may_have_the_name_of_a_command(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "SOURCE").mkdir()
    (tmp_path / "SOURCE" / "a.png").write_bytes(next(images.glob("*.png")).read_bytes())
    monkeypatch.chdir(tmp_path)
    done = run("SOURCE", "--policy", "storybook", "--output", "out", "--workers", "1")
    assert done.exit_code == 0
    assert "of 1 samples" in done.stdout


def test_a_milder_action_keeps_more_without_the_images(cleaned: Path, tmp_path: Path) -> None:
    done = run(
        "sort", cleaned, "--policy", "storybook", "--reject-from", "block", "--output", tmp_path / "milder"
    )
    assert done.exit_code == 0
    assert done.stdout.startswith(
        f"Kept {len(_table(tmp_path / 'milder' / 'kept.parquet'))} of {COUNT} samples."
    )
    assert len(_table(tmp_path / "milder" / "kept.parquet")) >= len(_table(cleaned / "kept.parquet"))


def test_copies_of_kept_and_of_rejected_samples(cleaned: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(
        "sort", cleaned, "--policy", "storybook", "--output", out, "--write-clean", "--write-quarantine"
    )
    assert done.exit_code == 0, done.stderr
    for table, folder in (("kept", "clean"), ("rejected", "quarantine")):
        ids = {row["id"] for row in _table(out / f"{table}.parquet")}
        assert {path.name for path in (out / folder).glob("*.png")} == ids
        assert {path.with_suffix(".png").name for path in (out / folder).glob("*.txt")} == ids


def test_killed_at_random_moments_it_ends_the_same(images: Path, cleaned: Path, tmp_path: Path) -> None:
    """The program gets SIGKILL, and its workers notice and end."""
    rng, out = random.Random(1), tmp_path / "out"
    command = [sys.executable, "-m", "safelight", "clean", str(images), "--policy", "storybook"]
    command += ["--output", str(out), "--workers", "1"]
    for _ in range(3):
        program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not list(out.glob("findings/*")) and time.monotonic() < deadline and program.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.4))
        program.send_signal(signal.SIGKILL)
        program.wait()
    subprocess.run(command, check=True, env={**os.environ}, stdout=subprocess.DEVNULL)
    for name in ("kept.parquet", "rejected.parquet"):
        assert (out / name).read_bytes() == (cleaned / name).read_bytes()


@pytest.mark.parametrize("blocks", [8, 20, 50])
def test_a_full_disk_is_an_error_and_loses_nothing(
    blocks: int, images: Path, cleaned: Path, tmp_path: Path
) -> None:
    """Limit the size of files, so that the plan, the findings or the report cannot be written."""
    out = tmp_path / "out"
    command = f'ulimit -f {blocks}; exec "{sys.executable}" -m safelight clean "{images}" --policy storybook'
    done = subprocess.run(
        ["bash", "-c", f'{command} --output "{out}" --workers 1'], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert not (out / "report.html").exists()
    assert run(images, "--policy", "storybook", "--output", out).exit_code == 0
    assert (out / "kept.parquet").read_bytes() == (cleaned / "kept.parquet").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere; give a folder, a file or a URL"),
        ([".", "--address", "head:1"], "--address is for --engine ray"),
        ([".", "--policy", "storybok"], 'did you mean "storybook"'),
        ([".", "--format", "parket"], 'did you mean "parquet"'),
    ],
)
def test_what_is_wrong_is_one_sentence(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = run(
        *arguments,
        *([] if "--policy" in arguments else ["--policy", "storybook"]),
        "--output",
        tmp_path / "out",
    )
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


def test_help_shows_how_the_source_is_given() -> None:
    assert "clean SOURCE [OPTIONS]\n" in run("images", "--help").stdout
