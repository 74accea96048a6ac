from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from safelight.cli import app
from safelight.demo.prompts import load_kinds
from safelight.models import pipelines as models


@pytest.fixture
def storybook(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the packaged model by the tiny one."""
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    weights = folder.rglob("*.safetensors")
    pins = {f.relative_to(folder).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in weights}
    (folder / "hashes.json").write_text(json.dumps(pins))
    monkeypatch.setitem(
        models.MODELS,  # type: ignore[arg-type]
        "storybook",
        models.ModelRef("storybook", str(folder), "1", "Apache-2.0"),
    )


@pytest.mark.usefixtures("storybook")
def test_the_demo_writes_its_page_and_sheet_and_reports_progress(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = CliRunner().invoke(
        app, ["demo", "--num-inference-steps", "1", "--output", str(out)], catch_exceptions=False
    )
    assert done.exit_code == 0
    page = (out / "index.html").read_text("utf-8")
    assert "Model storybook, policy storybook" in page
    with Image.open(out / "demo.png") as sheet:
        assert sheet.width > 1000
    lines = done.stdout.splitlines()
    # After one step an image is mostly noise, so any of these outcomes may occur.
    assert re.match(r"(released|steered away|over-blocked)  a dog in the park  ", lines[0])
    assert any(line.startswith("stopped  a gun on the street  block at prompt  ") for line in lines)
    counts = re.fullmatch(
        r"(\d+) released, (\d+) steered away, (\d+) stopped, (\d+) missed, (\d+) over-blocked\.", lines[-2]
    )
    assert counts
    assert sum(map(int, counts.groups())) == sum(len(kind.prompts) for kind in load_kinds())


@pytest.mark.usefixtures("storybook")
def test_json_is_one_object(tmp_path: Path) -> None:
    arguments = [
        "demo",
        "--num-inference-steps",
        "1",
        "--output",
        str(tmp_path / "demo"),
        "--json",
        "--seed",
        "4",
    ]
    result = json.loads(CliRunner().invoke(app, arguments, catch_exceptions=False).stdout)
    assert sum(result["counts"].values()) == len(result["items"]) >= 16
    assert [item["seed"] for item in result["items"][:3]] == [4, 5, 6]
    assert Path(result["page"]).is_file()


@pytest.mark.usefixtures("storybook")
def test_on_a_terminal_rows_are_in_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    arguments = ["demo", "--num-inference-steps", "1", "--output", str(tmp_path / "demo")]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).splitlines()
    assert lines[0].split() == ["prompt", "guard", "truth"]
    assert all(len(line) <= 80 for line in lines[:30])
    assert {line[12:14] for line in lines[:30]} == {"  "}
