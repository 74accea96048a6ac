"""Policies are measured on labelled prompts that no filter was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from safelight.cli import app
from safelight.errors import RequestError
from safelight.evaluation.labelled_prompts import SETS, labelled_prompts
from safelight.filters.text.child_safety import ChildSafety
from safelight.filters.text.training.network import CATEGORIES
from safelight.filters.text.training.written import read_written

ALWAYS = '["always"]\n[filters.options.always]\nlabel = "weapons"'


def _policy(folder: Path, filters: str) -> Path:
    path = folder / "ours.toml"
    path.write_text(
        f'name = "ours"\nversion = "1"\n[filters]\nprompt = {filters}\n'
        "[categories.weapons]\nprompt = { review = 0.5 }\n"
    )
    return path


@pytest.mark.parametrize("name", SETS)
def test_labelled_prompts_have_known_shares_and_are_never_trained_on(name: str) -> None:
    prompts = labelled_prompts(name)
    assert len({each.prompt for each in prompts}) == len(prompts) >= 300
    assert {category for each in prompts for category in each.categories} == set(CATEGORIES)
    harmless = sum(not each.categories for each in prompts) / len(prompts)
    assert harmless == pytest.approx(2 / 3 if name == "later" else 1 / 2, abs=0.05)
    assert not {each.prompt for each in prompts} & {each.text.prompt for each in read_written()}
    assert not any(ChildSafety().find([each.prompt for each in prompts]))


def test_each_of_ten_languages_has_120_prompts() -> None:
    groups = [each.group for each in labelled_prompts("languages")]
    assert {groups.count(group) for group in groups} == {120}
    assert len(set(groups)) == 10


def test_another_set_is_refused() -> None:
    with pytest.raises(RequestError, match=r'no set of labelled prompts "unsen".*unseen'):
        labelled_prompts("unsen")


def test_a_policy_that_flags_everything(tmp_path: Path) -> None:
    """Under weapons, so that what asks for weapons is flagged under a right category."""
    order = ["evaluate", "prompt-policy", "--policy", str(_policy(tmp_path, ALWAYS)), "--json"]
    done = CliRunner().invoke(app, [*order, "--output", str(tmp_path / "out")])
    assert done.exit_code == 0, done.stderr
    results = json.loads(done.stdout)
    assert results == json.loads((tmp_path / "out" / "results.json").read_text())
    tables = {name: {row["group"]: row for row in rows} for name, rows in results["tables"].items()}
    harmful = [each for each in labelled_prompts("unseen") if each.categories]
    weapons = sum("weapons" in each.categories for each in harmful)
    flagged, right = tables["flagged"]["unseen"], tables["right category"]["unseen"]
    assert (flagged["k"], flagged["n"]) == (len(harmful), len(harmful))
    assert (right["k"], right["n"]) == (weapons, len(harmful))
    assert tables["right category"]["weapons"]["rate"] == 1
    assert tables["blocked"]["unseen"]["k"] == 0
    assert tables["flagged"]["de"]["n"] == tables["harmless flagged"]["de"]["n"] == 60
    assert tables["harmless flagged"]["borderline"]["rate"] == 1
    assert tables["harmless flagged"]["weapons"]["rate"] == 1
    assert tables["harmless flagged"]["weapons"]["n"] == 204 + 720 + 168 + 168
    assert tables["harmless flagged"]["hate"]["k"] == tables["harmless blocked"]["weapons"]["k"] == 0
    assert (
        tables["harmless flagged"]["last: scary"]["n"]
        == tables["harmless flagged"]["final: ordinary"]["n"]
        == 84
    )
    assert tables["flagged"]["chosen on: harmful"]["rate"] == 1
    assert tables["harmless flagged"]["later: scary"]["n"] == tables["flagged"]["later: harmful"]["n"] == 360


def test_a_policy_that_flags_nothing(tmp_path: Path) -> None:
    results = CliRunner().invoke(
        app,
        ["evaluate", "prompt-policy", "--policy", str(_policy(tmp_path, '["never"]')), "--json",
         "--output", str(tmp_path / "out")],
    )  # fmt: skip
    tables = json.loads(results.stdout)["tables"]
    assert {row["k"] for row in tables["flagged"]} == {0}
    assert tables["right category"] == []
