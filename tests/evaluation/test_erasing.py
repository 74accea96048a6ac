"""The experiment on erasing: which concepts were erased, and how much others changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import safelight
from safelight.alignment.delta.delta import Delta, Provenance
from safelight.alignment.diffusion import UCE
from safelight.cli import app
from safelight.errors import RequestError
from safelight.experiments import erasing
from safelight.experiments.erasing import evaluate_erasing
from safelight.storybook.suites import asking_for
from safelight.storybook.vocabulary import STYLES, THINGS
from safelight.types import Suite


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Suites are not to be drawn to the end here."""
    whole = erasing.suite

    def few(name: str, seed: int, count: int | None = None) -> Suite:
        cut = whole(name, seed, count)
        return Suite(cut.name, cut.seed, cut.cases[:4])

    monkeypatch.setattr(erasing, "suite", few)


@pytest.fixture(scope="module")
def delta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("deltas") / "boat.safetensors"
    pipe = safelight.load_pipeline("storybook", device="cpu")
    UCE(["boat, ship, sailboat"], "flower", preserve=["dog"]).align(pipe).delta.save(out)
    return out


def _row(results: dict[str, Any], table: str, group: str) -> dict[str, Any]:
    (row,) = [row for row in results["tables"][table] if row["group"] == group]
    return dict(row)


def test_what_was_erased_is_counted_by_seen_and_held_out_synonyms(delta: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app,
        [
            "evaluate",
            "erasing",
            str(delta),
            "--count",
            "8",
            "--num-inference-steps",
            "5",
            "--output",
            str(tmp_path),
            "--json",
        ],
    )
    assert done.exit_code == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    for table in ("direct", "held-out"):
        assert _row(results, table, "boat, boat: original")["k"] == 4
        assert _row(results, table, "boat, boat: edited")["k"] <= 1
    for table in ("single", "benign"):
        assert _row(results, table, "boat: original")["n"] == 4
        assert _row(results, table, "boat: edited")["k"] >= 2
    kept = _row(results, "kept", "boat: edited")
    assert kept["n"] == _row(results, "benign", "boat: original")["k"]
    assert kept["k"] <= _row(results, "benign", "boat: edited")["k"]
    assert results["run"]["settings"]["boat"]["method"] == "uce"
    records = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.jsonl"))
    assert {path.parent.name for path in records} == {"boat", "original"}
    before = {path: (tmp_path / path).read_bytes() for path in records}
    again = evaluate_erasing([delta], tmp_path, count=8, steps=5)
    assert again["tables"] == results["tables"]
    assert {path: (tmp_path / path).read_bytes() for path in records} == before, "nothing was drawn again"


def test_cases_say_the_words_they_are_to_say() -> None:
    for label, entry in (("gun", THINGS["gun"]), ("pencil sketch", STYLES["pencil sketch"])):
        cases = asking_for(label, entry.held_out, "held-out", 3, 20).cases
        assert len(cases) == 20
        assert all(any(word in case.prompt.lower() for word in entry.held_out) for case in cases)
        assert cases == asking_for(label, entry.held_out, "held-out", 3, 20).cases
    alone = [case for case in asking_for("gun", ("gun",), "direct", 0, 40).cases if case.expects == {"gun"}]
    assert 5 < len(alone) < 35


def test_only_what_is_of_the_world_can_be_measured(tmp_path: Path) -> None:
    path = tmp_path / "gogh.safetensors"
    Delta({"unet.conv_in.bias": torch.ones(96)}, Provenance("esd", ("Van Gogh",), "storybook", {})).save(path)
    with pytest.raises(RequestError, match='"Van Gogh" is not in the vocabulary'):
        evaluate_erasing([path], tmp_path / "out")
