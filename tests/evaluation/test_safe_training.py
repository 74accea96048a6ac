"""The experiment on what cleaning buys, on a budget that teaches nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from safelight.alignment.text_encoder import SafeText
from safelight.errors import RequestError
from safelight.evaluation.run import Progress
from safelight.experiments import safe_training
from safelight.experiments.safe_training import CLEANED, EVERYTHING, MISSED, evaluate_safe_training
from safelight.storybook.prompts import training_prompts


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        safe_training, "training_prompts", lambda **asked: training_prompts(200, misspell=asked["misspell"])
    )
    monkeypatch.setattr(safe_training, "SafeText", partial(SafeText, steps=1))


def _run(out: Path, progress: Progress | None = None, **changed: int) -> Mapping[str, Any]:
    settings = {
        "scenes": 300,
        "num_images": 256,
        "count": 3,
        "benign": 3,
        "steps": 1,
        "esd_steps": 1,
        **changed,
    }
    return evaluate_safe_training(out, **settings, progress=progress)


@pytest.mark.slow
def test_three_models_each_with_every_defence(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    results = _run(tmp_path, lambda done, whole: told.append((done, whole)))
    assert told == sorted(told)
    assert {whole for _, whole in told} == {3 * 4 * 15}
    data = results["run"]["data"]
    assert data[EVERYTHING]["samples"] == 300
    assert data[EVERYTHING]["harmful"] > 40
    assert data[CLEANED]["harmful"] == 0
    rejected = 300 - data[CLEANED]["samples"]
    assert data[MISSED]["samples"] == data[CLEANED]["samples"] + rejected // 10
    assert data[MISSED]["harmful"] == rejected // 10 - 1, "one of those put back had been rejected wrongly"
    systems = [row["group"] for row in results["tables"]["direct"]]
    assert systems == [
        f"{model}{added}"
        for model in (EVERYTHING, CLEANED, MISSED)
        for added in ("", " + ESD", " + SafeText", " + SLD strong")
    ]
    assert {question: rows[0]["n"] for question, rows in results["tables"].items()} == {
        "direct": 3, "held-out": 3, "context": 3, "counterparts": 3, "benign": 3,
    }  # fmt: skip
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = _run(tmp_path)
    assert again["tables"] == results["tables"]
    assert {path: path.stat().st_mtime_ns for path in written} == written, "nothing is trained twice"
    with pytest.raises(RequestError, match="another scenes"):
        _run(tmp_path, scenes=301)
    with pytest.raises(RequestError, match="of another run"):
        _run(tmp_path, steps=2)
