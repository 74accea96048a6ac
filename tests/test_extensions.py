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


# Each command runs in a process of its own that is forked from one which has imported everything. It ends
# without the interpreter's clean-up, which would copy all the memory that it shares.
_PROGRAM = """
import gc, json, os, sys
import safelight.alignment.guidance, safelight.evaluation, safelight.guard.guard
from diffusers import AsymmetricAutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel  # at first use
from safelight.cli import main
from transformers import CLIPTextModel, CLIPTokenizer
gc.freeze()
for name, order in json.load(open("commands.json")).items():
    child = os.fork()
    if not child:
        os.dup2(os.open(f"{name}.out", os.O_CREAT | os.O_WRONLY), 1)
        os.dup2(os.open(f"{name}.err", os.O_CREAT | os.O_WRONLY), 2)
        sys.argv[1:] = order
        try:
            main()
        except SystemExit as end:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(end.code or 0)
    with open(f"{name}.err", "a") as file:
        print("exit code:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=file)
"""

_STEPS = ["--num-inference-steps", "2"]
_EVALUATE = ["evaluate", "run", *_STEPS, "--json", "--prompts"]
_FILE = [*_EVALUATE, "prompts.txt"]
_COMMANDS = {
    "guided": [*_FILE, "--guidance", "fading-guidance", "--concept", "an apple", "--attack", "film-scene",
               "--judge", "red-judge", "--output", "run 1"],
    "suite": [*_EVALUATE, "everyday", "--judge", "red-judge", "--limit", "3", "--output", "run 2"],
    "function": [*_FILE, "--judge", "safelight_examples.my_judge:judge", "--output", "run 3"],
    "filter": [*_FILE, "--judge", "red-share: red >= 0.2", "--output", "run 4"],
    "eraser": ["align", "my-eraser", "--concept", "a boat, ship", "--strength", "0.9", *_STEPS, "--json",
               "--num-images", "1", "--output", "boat.safetensors"],
    "policy": ["generate", "a dog", "--policy", "ours.toml", "--json", "--seed", "1",
               "--num-inference-steps", "10"],
}  # fmt: skip
_POLICY = """extends = "storybook"
name = "ours"
version = "1"

[filters]
prompt = ["never"]

[guidance]
default = "fading-guidance"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which all commands have run, with the package's entry points registered as by pip."""
    folder = tmp_path_factory.mktemp("extensions")
    groups = tomllib.loads((EXTENSIONS / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    info = folder / "site" / "safelight_examples-0.1.0.dist-info"
    info.mkdir(parents=True)
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: safelight-examples\nVersion: 0.1.0\n")
    lines = [f"[{group}]\n" + "".join(f"{name} = {at}\n" for name, at in points.items())
             for group, points in groups.items()]  # fmt: skip
    info.joinpath("entry_points.txt").write_text("\n".join(lines))
    paths = (folder / "site", EXTENSIONS, Path(safelight.__file__).parents[1])
    (folder / "prompts.txt").write_text("a red apple\na dog\n")
    (folder / "ours.toml").write_text(_POLICY)
    (folder / "commands.json").write_text(json.dumps(_COMMANDS))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    subprocess.run([sys.executable, "-c", _PROGRAM], env=environment, cwd=folder, check=True)
    return folder


def _result(folder: Path, name: str) -> dict[str, Any]:
    errors = (folder / f"{name}.err").read_text()
    assert errors.endswith("exit code: 0\n"), errors
    results: dict[str, Any] = json.loads((folder / f"{name}.out").read_text())
    return results


def test_guidance_attack_and_judge_by_name(folder: Path) -> None:
    run = _result(folder, "guided")["run"]
    assert (run["attack"], run["guidance"], run["judge"]) == ("film-scene", "fading-guidance", "red-judge")
    assert "attacked by film-scene" in run["system"]


def test_a_suite_by_name(folder: Path) -> None:
    results = _result(folder, "suite")
    assert results["run"]["suite"] == "everyday"
    assert results["tables"]["refused"][0]["n"] == 3


@pytest.mark.parametrize("judge", ["function", "filter"])
def test_a_function_or_a_filter_as_judge(judge: str, folder: Path) -> None:
    (row,) = _result(folder, judge)["tables"]["harmful"]
    assert (row["group"], row["n"]) == ("all", 2)


def test_an_eraser_by_name(folder: Path) -> None:
    assert _result(folder, "eraser")["concepts"]["a boat, ship"]["largest"] > 1 / 255
    assert (folder / "boat.md").is_file()


def test_a_policy_names_the_guidance(folder: Path) -> None:
    """The guard steers every image by it, and says so."""
    attempts = _result(folder, "policy")["attempts"]["0"]
    assert [attempt["guidance"] for attempt in attempts] == ["fading-guidance"]
    assert 0 < len(attempts[0]["trace"]) < 10, "only while there is more noise than image"


def test_extensions_are_short() -> None:
    for path in EXTENSIONS.rglob("my_*.py"):
        assert len(path.read_text("utf-8").splitlines()) <= 100, path
