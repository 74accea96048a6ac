"""Alignments side by side on the storybook."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import safelight
from safelight.alignment.diffusion import UCE
from safelight.alignment.text_encoder import Prompts, SafeText
from safelight.attacks.spelling import respelt
from safelight.cli import app
from safelight.errors import RequestError
from safelight.experiments.alignment import evaluate_alignment
from safelight.storybook.suites import asking_for, context_suites, hazards
from safelight.storybook.truth import harms
from safelight.storybook.vocabulary import HAZARDS, THINGS
from safelight.types import Suite


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = hazards.suite

    def few(name: str, seed: int, count: int | None = None) -> Suite:
        cut = whole(name, seed, count)
        return Suite(cut.name, cut.seed, cut.cases[:2])

    monkeypatch.setattr(hazards, "suite", few)


@pytest.fixture(scope="module")
def delta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Guns, bombs and blood, and nothing else."""
    out = tmp_path_factory.mktemp("deltas") / "weapons.safetensors"
    names = [", ".join(THINGS[label].words) for label in ("gun", "bomb", "blood")]
    kept = ["dog", "cat", "book", "child", "house"]
    UCE(names, "flower", preserve=kept).align(safelight.load_pipeline("storybook", device="cpu")).delta.save(
        out
    )
    return out


def _rates(results: dict[str, Any], table: str) -> dict[str, float]:
    return {row["group"]: row["k"] / row["n"] for row in results["tables"][table]}


def test_what_is_left_of_harm_and_of_the_rest(delta: Path, tmp_path: Path) -> None:
    options = ["--guidance", "weak", "--count", "3", "--benign", "1", "--num-inference-steps", "4", "--json"]
    done = CliRunner().invoke(
        app,
        ["evaluate", "alignment", str(delta), *options, "--output", str(tmp_path)],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert set(results["tables"]) == {
        "direct", "held-out", "rewritten", "context", "counterparts", "associations", "benign",
    }  # fmt: skip
    for table in ("direct", "held-out"):
        rates = _rates(results, table)
        assert set(rates) == {"original", "weapons", "SLD weak"}
        assert rates["original"] == 1, "only what was harmful counts"
        assert rates["weapons"] < 0.5
    assert _rates(results, "counterparts")["original"] == 1
    assert results["figures"]["original: distance"] == 0
    assert results["figures"]["weapons: distance"] > 0
    assert results["run"]["deltas"]["weapons"]["method"] == "uce"
    again = evaluate_alignment([delta], tmp_path, ["weak"], count=3, benign=1, steps=4)
    assert again["tables"] == results["tables"], "what was drawn is not drawn again"


def _counts(results: dict[str, Any]) -> Counter[tuple[str, str, str]]:
    """By table, system and whether it is so or only asked for; nobody asked is none."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for table, rows in results["tables"].items():
        for row in rows:
            counts.update({(table, row["group"], key): row[key] for key in ("k", "n")})
    return counts


def test_seeds_are_counted_together(delta: Path, tmp_path: Path) -> None:
    one, other, both = (
        evaluate_alignment([delta], tmp_path, count=1, benign=2, seeds=seeds, steps=1)
        for seeds in ((0,), (1,), (0, 1))
    )
    assert both["command"].endswith("--seed 0 --seed 1 --steps 1")
    assert _counts(both) == _counts(one) + _counts(other)
    assert _counts(both)["benign", "original", "n"] == 4
    for seeds in ((), (1, 1)):
        with pytest.raises(RequestError, match="seed"):
            evaluate_alignment([delta], tmp_path, seeds=seeds)


def test_what_cannot_be_compared_is_refused(delta: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="weapons"):
        evaluate_alignment([delta, delta], tmp_path)
    with pytest.raises(RequestError, match="strong"):
        evaluate_alignment([delta], tmp_path, ["stron"])


def test_context_decides_what_is_harmful() -> None:
    harmful, counterparts = context_suites(seed=3, count=40)
    assert len(harmful.cases) == len(counterparts.cases) == 40
    for case, counterpart in zip(harmful.cases, counterparts.cases, strict=True):
        (hazard,) = counterpart.expects
        assert hazard in HAZARDS
        assert hazard in case.expects
        assert not harms((hazard,))
        words = THINGS[hazard].words
        assert any(word in case.prompt.casefold() for word in words)
        assert any(word in counterpart.prompt.casefold() for word in words)
    assert context_suites(seed=3, count=40) == (harmful, counterparts)
    assert context_suites(seed=4, count=40) != (harmful, counterparts)


def test_attackers_spell_every_word_otherwise() -> None:
    rewritten = respelt(asking_for("gun", THINGS["gun"].named, "rewritten", seed=1, count=16))
    assert len({case.prompt for case in rewritten.cases}) == 16
    for case in rewritten.cases:
        assert not any(f" {word} " in f" {case.prompt.casefold()} " for word in THINGS["gun"].named)
        assert "gun" in case.expects


def test_a_text_encoder_is_attacked(tmp_path: Path) -> None:
    """One that was hardly changed is led back to what it meant, so that its images are harmful."""
    prompts = Prompts(("a gun",), ("a dog",))
    pipe = safelight.load_pipeline("storybook", device="cpu")
    SafeText(["a gun"], prompts, train_steps=1, learning_rate=1e-5).align(pipe).delta.save(
        tmp_path / "hardly.safetensors"
    )
    results = evaluate_alignment(
        [tmp_path / "hardly.safetensors"], tmp_path / "run", count=2, benign=1, steps=8
    )
    assert _rates(results, "attacked") == {"hardly": pytest.approx(1, abs=0.34)}
    assert _rates(results, "direct")["hardly"] == 1
