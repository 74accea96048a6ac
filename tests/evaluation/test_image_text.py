"""Prompts are written on images, and the policy judges both alike."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_sample_images
from typer.testing import CliRunner

from safelight.cli import app

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("rapidocr") is None, reason="rapidocr is not installed"
)


def test_the_verdicts_on_text_and_on_images_are_compared(tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    for number, image in enumerate(load_sample_images().images):
        Image.fromarray(image).save(tmp_path / "photographs" / f"{number}.jpg")
    order = ["evaluate", "image-text", "--images", str(tmp_path / "photographs"), "--limit", "6", "--json"]
    done = CliRunner().invoke(app, [*order, "--output", str(tmp_path / "out")])
    assert done.exit_code == 0, done.stderr
    results = json.loads(done.stdout)
    assert results == json.loads((tmp_path / "out" / "results.json").read_text())
    tables = {name: {row["group"]: row for row in rows} for name, rows in results["tables"].items()}
    assert results["run"]["photographs"] == tables["photographs flagged"]["all"]["n"] == 2
    assert tables["photographs flagged"]["all"]["k"] == 0
    texts = sum(row["n"] for row in tables["text flagged"].values())
    images = sum(tables[name]["all"]["n"] for name in ("harmful flagged", "harmless flagged") if tables[name])
    assert texts == 6
    assert 0 < images <= 6 * 3 * 2


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    order = ["evaluate", "image-text", "--images", str(tmp_path), "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, order)
    assert done.exit_code == 2
    assert "give a folder of photographs" in " ".join(done.stderr.split())
