"""False positives of a policy on harmless images, counted by kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from safelight.cli.app import app
from safelight.storybook import Storybook

POLICY = """
name = "guns"
version = "1"
[filters]
image = ["storybook-image"]
[categories.weapons]
image = { review = 0.5, block = 0.9 }
[labels]
gun = ["weapons"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four scenes without and two with a gun, and a file that is no image."""
    world = Storybook(seed=3)
    number = iter(range(1000))
    for kind, there, count in (("plain", False, 4), ("armed", True, 2)):
        (tmp_path / "images" / kind).mkdir(parents=True)
        for each in range(count):
            scene = next(s for s in map(world.scene, number) if ("gun" in s.objects) is there)
            scene.image.save(tmp_path / "images" / kind / f"{each}.png")
    (tmp_path / "images" / "plain" / "broken.png").write_bytes(b"no image")
    (tmp_path / "policy.toml").write_text(POLICY)
    return tmp_path


def _evaluated(folder: Path, images: Path) -> dict[str, dict[str, Any]]:
    order = ["evaluate", "harmless-images", "--images", str(images), "--policy", str(folder / "policy.toml")]
    done = CliRunner().invoke(app, [*order, "--output", str(folder / "out"), "--json"])
    assert done.exit_code == 0, done.stderr
    results = json.loads(done.stdout)
    assert results == json.loads((folder / "out" / "results.json").read_text())
    return {name: {row["group"]: row for row in rows} for name, rows in results["tables"].items()}


def test_images_are_counted_by_the_names_of_their_folders(folder: Path) -> None:
    tables = _evaluated(folder, folder / "images")
    assert [(name, row["k"], row["n"]) for name, row in tables["flagged"].items()] == [
        ("all", 2, 6),
        ("armed", 2, 2),
        ("plain", 0, 4),
        ("label gun", 2, 6),
    ]
    assert (tables["refused unseen"]["all"]["k"], tables["refused unseen"]["all"]["n"]) == (1, 7)


def test_a_table_tells_the_kinds(folder: Path) -> None:
    images = folder / "images"
    (images / "index.tsv").write_text("file\tkind\tpackage\nplain/0.png\tscene\ta\nplain/1.png\tscene\tb\n")
    tables = _evaluated(folder, images)
    assert {name: row["n"] for name, row in tables["flagged"].items()} == {"all": 2, "scene": 2}


@pytest.mark.parametrize(
    ("index", "problem"),
    [("name\tsort\na\tb\n", "no columns file and kind"), (None, "has no images")],
)
def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path, index: str | None, problem: str) -> None:
    if index:
        (tmp_path / "index.tsv").write_text(index)
        Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    done = CliRunner().invoke(app, ["evaluate", "harmless-images", "--images", str(tmp_path)])
    assert done.exit_code == 2
    assert problem in done.stderr
