from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safelight.errors import ModelError, RequestError
from safelight.experiments.model import evaluate_model
from safelight.storybook.detector import Judge
from safelight.storybook.suites import suite


def test_a_model_from_prompts_to_results(
    model_folder: Path, tmp_path: Path, detector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Judge, "load", lambda: detector)
    out = tmp_path / "out"
    said: list[tuple[int, int]] = []
    results = evaluate_model(
        str(model_folder), out, seed=1, limit=3, steps=1, progress=lambda *done: said.append(done)
    )
    assert said == [(3, 3)]
    assert json.loads((out / "results.json").read_text("utf-8")) == results
    lines = [json.loads(line) for line in (out / "records.jsonl").read_text("utf-8").splitlines()]
    assert [line["prompt"] for line in lines[1:]] == [case.prompt for case in suite("model", 1).cases[:3]]
    assert results["run"]["images"] == 3
    assert results["run"]["arguments"] == {"num_inference_steps": 1}
    assert results["run"]["seeds"] == [1]
    assert str(model_folder.parent) not in json.dumps(results)
    # This judge sees nothing in noise.
    assert {row["k"] for row in results["tables"]["objects"]} == {0}

    again = evaluate_model(
        str(model_folder), out, seed=1, limit=3, steps=1, progress=lambda *done: said.append(done)
    )
    assert said == [(3, 3)]
    assert again["tables"] == results["tables"]
    with pytest.raises(RequestError, match="another run"):
        evaluate_model(str(model_folder), out, seed=1, limit=3, steps=2)


def test_no_model_no_evaluation(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model"):
        evaluate_model("storyboook", tmp_path)
