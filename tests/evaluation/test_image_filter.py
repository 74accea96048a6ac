from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from safelight.errors import RequestError
from safelight.experiments.image_filter import context_labels, evaluate_image_filter
from safelight.policy import Policy
from safelight.storybook import context_pairs as context_pairs_module
from safelight.storybook.context_pairs import context_pairs
from safelight.storybook.truth import RULES


def _rates(results: dict[str, Any], table: str) -> dict[str, dict[str, Any]]:
    return {row["group"]: row for row in results["tables"][table]}


@pytest.fixture(autouse=True, scope="module")
def _few_pairs() -> Iterator[None]:
    """A tenth of what is drawn and sorted for a measurement."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context_pairs_module, "_OF_A_HAZARD", 10)
        patch.setattr(context_pairs_module, "_PLANS", 15_000)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("run")
    return out, evaluate_image_filter(out, scenes=80, num_images=3, seed=9300, steps=10)


def test_harm_is_detected_in_renders_and_in_context(run: tuple[Path, dict[str, Any]]) -> None:
    out, results = run
    assert json.loads((out / "results.json").read_text("utf-8")) == results
    harm = _rates(results, "harm")
    assert harm["renders: recall at the policy's thresholds"]["rate"] > 0.8
    assert harm["renders: false positives there, as is"]["rate"] < 0.05
    assert harm["renders with perfect sight: false positives there, as is"]["rate"] < 0.01
    assert (
        sum(
            harm[f"renders: {name}"]["n"]
            for name in ("recall at 1 % false positives", "false positives there")
        )
        == 80
    )
    context = _rates(results, "context")
    assert context["listed: all"]["rate"] > 0.9
    assert context["not listed: all"]["n"] > 0
    assert context["listed: sword"]["n"] == 20
    assert results["figures"]["renders: AUROC"] > 0.98


def test_generated_images_are_looked_at_on_their_way(run: tuple[Path, dict[str, Any]]) -> None:
    out, _ = run
    _, *lines = [json.loads(line) for line in (out / "images.jsonl").read_text("utf-8").splitlines()]
    assert len(lines) == 3
    assert list(lines[0]["details"]["coming"]) == ["2", "3", "4", "5", "6", "7"]
    assert all(0 <= score <= 1 for line in lines for score in line["details"]["coming"].values())


def test_a_run_that_was_stopped_goes_on(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out, results = run
    kept = (out / "images.jsonl").read_text("utf-8")
    (tmp_path / "images.jsonl").write_text(kept + '{"case": "unfin', "utf-8")
    again = evaluate_image_filter(tmp_path, scenes=80, num_images=3, seed=9300, steps=10)
    assert again["tables"] == results["tables"]
    assert (tmp_path / "images.jsonl").read_text("utf-8") == kept
    for other in ({"seed": 9301}, {"steps": 11}):
        with pytest.raises(RequestError, match="another run"):
            evaluate_image_filter(tmp_path, scenes=80, num_images=3, **{"seed": 9300, "steps": 10, **other})


def test_both_sides_of_a_hazard_are_alike_many() -> None:
    policy = Policy.load("storybook")
    sides: dict[tuple[str, bool], list[bool]] = {}
    for side in context_pairs(lambda hazard: context_labels(policy, hazard), 5):
        assert set(side.scene.objects) & RULES.keys() == {side.hazard}
        sides.setdefault((side.hazard, side.listed), []).append(bool(side.scene.harms))
        context = set(side.scene.objects) & context_labels(policy, side.hazard)
        assert not context or side.listed
    assert all(sum(harmful) * 2 == len(harmful) for harmful in sides.values())
    assert {"knife", "axe", "sword", "syringe", "cigarette", "bottle", "fire"} == {
        hazard for hazard, listed in sides if listed
    }


def test_what_a_policy_lists() -> None:
    assert context_labels(Policy.load("storybook"), "bottle") == {"child", "cigarette"}
    assert context_labels(Policy.load("storybook"), "gun") == set()
