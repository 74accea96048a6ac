"""The components in ``examples/extensions`` are used by name, without a change to safelight."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import safelight

EXTENSIONS = Path(__file__).parents[1] / "examples" / "extensions"


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which the package is installed, as pip notes its entry points."""
    groups = tomllib.loads((EXTENSIONS / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    folder = tmp_path / "site" / "safelight_examples-0.1.0.dist-info"
    folder.mkdir(parents=True)
    folder.joinpath("METADATA").write_text(
        "Metadata-Version: 2.1\nName: safelight-examples\nVersion: 0.1.0\n"
    )
    lines = [f"[{group}]\n" + "".join(f"{name} = {at}\n" for name, at in points.items())
             for group, points in groups.items()]  # fmt: skip
    folder.joinpath("entry_points.txt").write_text("\n".join(lines))
    paths = (tmp_path / "site", EXTENSIONS, Path(safelight.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}


def _evaluate(
    environment: dict[str, str], folder: Path, *options: str, prompts: str = "prompts.txt"
) -> dict[str, Any]:
    (folder / "prompts.txt").write_text("a red apple\na dog\n")
    command = [sys.executable, "-m", "safelight", "evaluate", "run", "--prompts", prompts, "--json"]
    fast = ["--num-inference-steps", "2", "--output", f"out {len(list(folder.iterdir()))}"]
    done = subprocess.run(
        [*command, *fast, *options], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout)
    return results


def test_guidance_attack_and_judge_by_name(installed: dict[str, str], tmp_path: Path) -> None:
    options = ["--guidance", "fading-guidance", "--concept", "an apple", "--attack", "film-scene"]
    run = _evaluate(installed, tmp_path, *options, "--judge", "red-judge")["run"]
    assert (run["attack"], run["guidance"], run["judge"]) == ("film-scene", "fading-guidance", "red-judge")
    assert "attacked by film-scene" in run["system"]


def test_a_suite_by_name(installed: dict[str, str], tmp_path: Path) -> None:
    options = ["--judge", "red-judge", "--limit", "3"]
    results = _evaluate(installed, tmp_path, *options, prompts="everyday")
    assert results["run"]["suite"] == "everyday"
    assert results["tables"]["refused"][0]["n"] == 3


@pytest.mark.parametrize("judge", ["safelight_examples.my_judge:judge", "red-share: red >= 0.2"])
def test_a_function_or_a_filter_as_judge(judge: str, installed: dict[str, str], tmp_path: Path) -> None:
    (row,) = _evaluate(installed, tmp_path, "--judge", judge)["tables"]["harmful"]
    assert (row["group"], row["n"]) == ("all", 2)


def test_an_eraser_by_name(installed: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "boat.safetensors"
    options = ["--concept", "a boat, ship", "--strength", "0.9", "--num-images", "1", "--output", str(out)]
    command = [sys.executable, "-m", "safelight", "align", "my-eraser", *options]
    fast = ["--num-inference-steps", "2", "--json"]
    done = subprocess.run(
        [*command, *fast], env=installed, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["concepts"]["a boat, ship"]["largest"] > 1 / 255
    assert (tmp_path / "boat.md").is_file()


def test_a_policy_names_the_guidance(installed: dict[str, str], tmp_path: Path) -> None:
    """The guard steers every image by it, and says so."""
    tables = '[filters]\nprompt = ["never"]\n\n[guidance]\ndefault = "fading-guidance"\n'
    (tmp_path / "ours.toml").write_text(f'extends = "storybook"\nname = "ours"\nversion = "1"\n{tables}')
    command = [sys.executable, "-m", "safelight", "generate", "a dog", "--policy", "ours.toml", "--json"]
    done = subprocess.run(
        [*command, "--seed", "1", "--steps", "10"],
        env=installed,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    attempts = json.loads(done.stdout)["attempts"]["0"]
    assert [attempt["guidance"] for attempt in attempts] == ["fading-guidance"]
    assert 0 < len(attempts[0]["trace"]) < 10, "only while there is more noise than image"


def test_extensions_are_short() -> None:
    for path in EXTENSIONS.rglob("my_*.py"):
        assert len(path.read_text("utf-8").splitlines()) <= 100, path
