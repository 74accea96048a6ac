"""``safelight train --model`` on data that ``safelight clean`` wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from safelight.alignment.delta.delta import Delta
from safelight.cli import app
from safelight.storybook import Storybook


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, out = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("cleaned") / "out"
    for i, scene in enumerate(Storybook(seed=11).scenes(12)):
        scene.image.save(folder / f"{i:02}.png")
        (folder / f"{i:02}.txt").write_text(scene.captions[0])
    order = ["clean", str(folder), "--policy", "storybook", "--out", str(out), "--workers", "1", "--json"]
    done = CliRunner().invoke(app, order, catch_exceptions=False)
    assert json.loads(done.stdout)["kept"] > 5
    return out


def _order(model: Path | str, cleaned: Path, out: Path) -> list[str]:
    order = ["train", "--model", str(model), "--data", str(cleaned), "--out", str(out), "--batch", "2"]
    return [*order, "--iterations", "3", "--rate", "1e-3", "--precision", "fp32", "--json"]


def test_any_model_is_trained_further_on_cleaned_data(
    model_folder: Path, cleaned: Path, tmp_path: Path
) -> None:
    out = tmp_path / "safer.safetensors"
    order = _order(model_folder, cleaned, out)
    done = CliRunner().invoke(app, [*order, "--show", "a dog"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["delta"] == str(out)
    assert said["preserved"]["a dog"]["num_images"] == 4
    assert len(json.loads(out.with_suffix(".curve.json").read_text())) == 3
    card = out.with_suffix(".md").read_text()
    assert "# SAFE-TRAINING\n" in card
    assert "| a dog | drawn | 4 |" in card
    assert "concept-erasure" not in card
    with Image.open(out.with_suffix(".png")) as sheet:
        assert sheet.size == (4 * 128, 2 * 128)
    assert not out.with_suffix(".checkpoint").exists()
    applied = tmp_path / "lora"
    order = [
        "apply",
        "--model",
        str(model_folder),
        "--delta",
        str(out),
        "--as",
        "lora",
        "--out",
        str(applied),
    ]
    assert CliRunner().invoke(app, order, catch_exceptions=False).exit_code == 0


def test_an_unfinished_training_is_not_begun_anew(model_folder: Path, cleaned: Path, tmp_path: Path) -> None:
    out = tmp_path / "safer.safetensors"
    out.with_suffix(".checkpoint").mkdir()
    done = CliRunner().invoke(app, _order(model_folder, cleaned, out))
    assert done.exit_code == 2
    assert "give --resume, or remove it" in " ".join(done.stderr.split())
    assert CliRunner().invoke(app, [*_order(model_folder, cleaned, out), "--resume"]).exit_code == 0
    assert out.exists()


# Imports everything once and forks: two processes that import take three times as long.
_TWO = """
import json, os, sys
import accelerate, torch, safelight.safe_training
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel  # imported at first use
from safelight.cli import main
from transformers import CLIPTextModel, CLIPTokenizer

for port, *order in json.loads(sys.argv[1]):
    children = []
    for rank in range(2):
        children.append(os.fork())
        if not children[-1]:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_PORT": str(port)}
            sys.argv[1:] = order
            try:
                main()
            finally:
                print("group:", torch.distributed.is_initialized(), file=sys.stderr)
    for child in children:
        print("exit code:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=sys.stderr)
"""


def _two_processes(*orders: list[str]) -> tuple[str, str]:
    """What is said on standard output and on standard error by commands that each run as two processes, as
    `torch.distributed.run` begins them, one command after the other."""
    from torch.distributed import TCPStore

    # Each has found a free port of its own, and keeps it.
    stores = [TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) for _ in orders]
    runs = json.dumps([(store.port, *order) for store, order in zip(stores, orders, strict=True)])
    about = {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True", "OMP_NUM_THREADS": "1"}
    about |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    done = subprocess.run(
        [sys.executable, "-c", _TWO, runs], capture_output=True, text=True, check=True, env=os.environ | about
    )
    return done.stdout, done.stderr


def test_two_processes_train_together(model_folder: Path, cleaned: Path, tmp_path: Path) -> None:
    """Each has batches of its own, so what is learnt is another thing than one of them learns alone.

    First the command is one that fails in the first process alone. Either way no process group is left when
    the interpreter ends: its threads would abort the process.
    """
    alone, together = tmp_path / "alone.safetensors", tmp_path / "together.safetensors"
    assert CliRunner().invoke(app, _order(model_folder, cleaned, alone)).exit_code == 0
    begun = tmp_path / "begun.safetensors"
    begun.with_suffix(".checkpoint").mkdir()
    said, told = _two_processes(*(_order(model_folder, cleaned, out) for out in (begun, together)))
    assert [line for line in told.splitlines() if "exit code:" in line] == [
        *["exit code: 2"] * 2,
        *["exit code: 0"] * 2,
    ], told
    assert told.count("group: False") == 4, told
    assert "give --resume" in told
    assert "another process ended early" in told
    assert json.loads(said)["delta"] == str(together)
    one, two = Delta.load(alone), Delta.load(together)
    assert (one.about.settings["processes"], two.about.settings["processes"]) == (1, 2)
    assert one.tensors.keys() == two.tensors.keys()
    assert not all(torch.equal(two.tensors[name], each) for name, each in one.tensors.items())
