"""The experiment on what cleaning buys, on a budget that teaches nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from safelight.alignment.diffusion import ESD
from safelight.alignment.text_encoder import SafeText
from safelight.errors import RequestError
from safelight.evaluation import safe_training
from safelight.evaluation.safe_training import CLEANED, EVERYTHING, MISSED, evaluate_safe_training
from safelight.storybook.prompts import training_prompts
from safelight.training import loop


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(
        safe_training, "training_prompts", lambda **asked: training_prompts(200, misspell=asked["misspell"])
    )
    for name, method in (("ESD", ESD), ("SafeText", SafeText)):

        def quick(*given: Any, method: Any = method, **settings: Any) -> Any:
            return dataclasses.replace(method(*given, **settings), steps=1)

        monkeypatch.setattr(safe_training, name, quick)


def _run(out: Path, **changed: int) -> Mapping[str, Any]:
    settings = {"scenes": 300, "images": 256, "count": 3, "benign": 3, "steps": 1, **changed}
    return evaluate_safe_training(out, **settings)


@pytest.mark.slow
def test_three_models_each_with_every_defence(tmp_path: Path) -> None:
    results = _run(tmp_path)
    data = results["run"]["data"]
    assert data[EVERYTHING]["samples"] == 300
    assert data[EVERYTHING]["harmful"] > 40
    assert data[CLEANED]["harmful"] == 0
    rejected = 300 - data[CLEANED]["samples"]
    assert data[MISSED]["samples"] == data[CLEANED]["samples"] + rejected // 10
    assert data[MISSED]["harmful"] == rejected // 10
    systems = [row["group"] for row in results["tables"]["direct"]]
    assert systems == [
        f"{model}{added}"
        for model in (EVERYTHING, CLEANED, MISSED)
        for added in ("", " + ESD", " + SafeText", " + SLD strong")
    ]
    assert {question: rows[0]["n"] for question, rows in results["tables"].items()} == {
        "direct": 3, "held-out": 3, "company": 3, "twins": 3, "benign": 3,
    }  # fmt: skip
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = _run(tmp_path)
    assert again["tables"] == results["tables"]
    assert {path: path.stat().st_mtime_ns for path in written} == written, "nothing is trained twice"
    with pytest.raises(RequestError, match="another scenes"):
        _run(tmp_path, scenes=301)
