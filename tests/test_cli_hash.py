from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from safelight.cli import app
from safelight.filters.image.known_image import KnownImage
from safelight.storybook import Storybook


def test_the_hashes_of_a_folder_are_a_list_that_knows_its_images(tmp_path: Path) -> None:
    scene, other = (scene.image for scene in Storybook(seed=0).scenes(2))
    (tmp_path / "images").mkdir()
    scene.save(tmp_path / "images" / "a.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "images" / "b.png")
    done = CliRunner().invoke(app, ["hash", str(tmp_path / "images")], catch_exceptions=False)
    assert done.exit_code == 0
    first, second = map(json.loads, done.stdout.splitlines())
    assert list(first) == ["path", "pdq", "quality", "sha256", "md5"]
    data = (tmp_path / "images" / "a.png").read_bytes()
    assert (first["sha256"], first["md5"]) == (
        hashlib.sha256(data).hexdigest(),
        hashlib.md5(data).hexdigest(),
    )
    assert (second["pdq"], second["quality"]) == (None, 0)
    (tmp_path / "ours.jsonl").write_text(done.stdout)
    (found,), nothing = KnownImage(tmp_path / "ours.jsonl").find([scene.resize((90, 90)), other])  # type: ignore[misc]
    assert found.evidence.id.endswith("a.png")
    assert nothing == []


def test_files_that_are_not_images_are_named_and_the_rest_is_hashed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    next(Storybook(seed=0).scenes(1)).image.save(tmp_path / "b.png")
    done = CliRunner().invoke(app, ["hash", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 2
    assert [Path(json.loads(line)["path"]).name for line in done.stdout.splitlines()] == ["b.png"]
    assert "cannot be read as an image" in " ".join(done.stderr.split())


@pytest.mark.parametrize("arguments", [[], ["nowhere.png"]])
def test_there_must_be_an_image(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["hash", *arguments]).exit_code == 2
