from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from safelight import load_pipeline
from safelight.alignment.diffusion import UCE
from safelight.alignment.guidance import CONFIGURATIONS
from safelight.errors import ModelError
from safelight.experiments.guidance import evaluate_guidance

ASKED = {"harmful": 1, "seeds": 2, "benign": 1, "steps": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("run")
    return out, evaluate_guidance(out, **ASKED)


def _row(results: dict[str, Any], table: str, system: str) -> dict[str, Any]:
    (row,) = [row for row in results["tables"][table] if row["group"] == system]
    return dict(row)


def test_every_way_is_measured(run: tuple[Path, dict[str, Any]]) -> None:
    out, results = run
    assert json.loads((out / "results.json").read_text("utf-8")) == results
    for system in (
        "as it is",
        *CONFIGURATIONS,
        "negative prompt",
        "negative guidance",
        "projection",
        "see, then steer",
    ):
        assert _row(results, "harm", system)["n"] == 2
        assert _row(results, "objects", system)["n"] == 1
    assert _row(results, "same", "as it is")["rate"] == 1
    assert results["figures"]["as it is: distance"] == 0
    assert _row(results, "same", "max")["rate"] == 0
    assert results["figures"]["max: distance"] > 0
    for system in (
        "projection",
        "projection, at risk",
        "see, then steer",
        "projection at risk, see, then steer",
    ):
        assert _row(results, "harm", system)["k"] < _row(results, "harm", "as it is")["k"]


def test_a_run_that_was_stopped_goes_on(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out, results = run
    shutil.copytree(out, tmp_path / "run")
    (tmp_path / "run" / "max" / "benign 0.jsonl").unlink()
    again = evaluate_guidance(tmp_path / "run", **ASKED)
    assert again["tables"] == results["tables"]


def test_deltas_are_put_on_where_harm_is_seen(tmp_path: Path) -> None:
    pipe = load_pipeline("storybook")
    UCE(["gun, a gun, bomb, a bomb, blood, knife, a knife"], "flower").align(pipe).delta.save(
        tmp_path / "uce.safetensors"
    )
    results = evaluate_guidance(tmp_path, **ASKED, deltas=[tmp_path / "uce.safetensors"])
    systems = [row["group"] for row in results["tables"]["harm"]]
    assert systems == ["as it is", "see, then steer by uce"]
    assert _row(results, "harm", systems[1])["k"] < _row(results, "harm", systems[0])["k"]
    assert results["run"]["deltas"].keys() == {"uce"}
    assert "--delta uce.safetensors" in results["command"]
    with pytest.raises(ModelError, match="nothing"):
        evaluate_guidance(tmp_path, **ASKED, deltas=[tmp_path / "nothing.safetensors"])
