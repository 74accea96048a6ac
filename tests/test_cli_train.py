"""``safelight train --model`` on data that ``safelight clean`` wrote."""

from __future__ import annotations

import json
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


def test_two_processes_train_together(model_folder: Path, cleaned: Path, tmp_path: Path) -> None:
    """Each has batches of its own, so what is learnt is another thing than one of them learns alone."""
    alone, together = tmp_path / "alone.safetensors", tmp_path / "together.safetensors"
    assert CliRunner().invoke(app, _order(model_folder, cleaned, alone)).exit_code == 0
    launched = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    order = _order(model_folder, cleaned, together)
    done = subprocess.run([*launched, "-m", "safelight", *order], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["delta"] == str(together), done.stdout
    one, two = Delta.load(alone), Delta.load(together)
    assert (one.about.settings["processes"], two.about.settings["processes"]) == (1, 2)
    assert one.tensors.keys() == two.tensors.keys()
    assert not all(torch.equal(two.tensors[name], each) for name, each in one.tensors.items())
