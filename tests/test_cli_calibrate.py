from __future__ import annotations

import json
import random
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from safelight.cli import app
from safelight.evaluation.calibration import _just_above, calibrate, with_thresholds, without_thresholds
from safelight.evaluation.rates import upper_bound
from safelight.guard.guard import Guard
from safelight.policy import Policy
from safelight.types import Finding

POLICY = """
# Ours, with a comment that stays.
name = "ours"
version = "1"

[filters]
prompt = ["lexicon"]
[filters.options.lexicon]
words = "{words}"

[categories."violence"]
prompt = {{ review = 0.5, block = 0.8 }}  # and this one
[categories."weapons"]
prompt = {{ block = 0.8 }}
[categories."hate"]
prompt = {{ review = 0.5 }}
"""
COUNT = 1200


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Words "zva" to "zvz" are violence, with scores rising by letter; "zwa" to "zwz" are weapons."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = {"violence": [f"zv{c}" for c in letters], "weapons": [f"zw{c}" for c in letters]}
    scores = {word: round(0.3 + 0.02 * i, 2) for listed in words.values() for i, word in enumerate(listed)}
    lists = tmp_path / "words.toml"
    lists.write_text(
        'version = "1"\n[labels]\n'
        + "\n".join(f"{label} = {json.dumps(listed)}" for label, listed in words.items())
        + "\n[scores]\n"
        + "\n".join(f"{word} = {score}" for word, score in scores.items())
    )
    path = tmp_path / "ours.toml"
    path.write_text(POLICY.format(words=lists))
    return path


@pytest.fixture
def benign(tmp_path: Path) -> Path:
    """Two in five prompts have a word of the lists, mostly one with a low score."""
    rng = random.Random(3)
    lines = []
    for i in range(COUNT):
        letter = "abcdefghijklmnopqrstuvwxyz"[min(25, int(rng.expovariate(0.3)))]
        word = f" z{rng.choice('vw')}{letter}" if rng.random() < 0.4 else ""
        lines.append(f"image number {i} of a house{word}")
    (tmp_path / "benign.txt").write_text("\n".join(lines))
    return tmp_path / "benign.txt"


def _calibrate(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["calibrate", *map(str, arguments)], catch_exceptions=False)


def test_thresholds_keep_the_bound_and_the_rest_of_the_file(
    policy: Path, benign: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "policy.toml"
    done = _calibrate(
        "--policy", policy, "--benign", benign, "--max-block-rate", "0.02", "--output", out, "--json"
    )
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    new = Policy.load(out)
    for name in ("violence", "weapons"):
        block = new.categories[name].prompt.block
        assert block == said["categories"][name]["threshold"]
        assert 0.2 <= block <= 1.0  # type: ignore[operator]
    assert new.categories["hate"] == Policy.load(policy).categories["hate"]
    assert new.version == "1.calibrated"
    text = out.read_text()
    assert "with a comment that stays" in text
    assert "# and this one" in text
    assert said["bound"] == pytest.approx(upper_bound(said["benign"]["k"], said["benign"]["n"]))

    lines = benign.read_text().splitlines()
    guard = Guard.from_policy(out)
    verdicts = [*guard.screen_prompts(lines[:1000]), *guard.screen_prompts(lines[1000:])]
    share = sum(verdict.action == "block" for verdict in verdicts) / len(lines)
    assert 0.002 < share <= 0.02, "neither more than allowed, nor far less"


def test_a_table_with_the_recall(policy: Path, benign: Path, tmp_path: Path) -> None:
    unsafe = tmp_path / "unsafe.csv"
    unsafe.write_text("text\n" + "\n".join(f"number {i} zv{'az'[i % 2]}" for i in range(100)))
    out = tmp_path / "p.toml"
    files = ("--benign", _as_csv(benign), "--unsafe", unsafe, "--column", "text")
    done = _calibrate("--policy", policy, *files, "--output", out)
    assert done.exit_code == 0
    assert "violence" in done.stdout
    assert "any category" in done.stdout
    assert "50.0% (40.4% to 59.6%)" in done.stdout
    assert "of such benign prompts are blocked in the long run" in done.stdout


def _as_csv(path: Path) -> Path:
    table = path.with_suffix(".csv")
    table.write_text("text\n" + path.read_text())
    return table


def test_too_few_say_how_many_are_needed(policy: Path, benign: Path) -> None:
    done = _calibrate("--policy", policy, "--benign", benign, "--max-block-rate", "0.001")
    assert done.exit_code == 2
    # ln(0.05) / ln(0.999) = 2994.2
    assert "each half needs 2995" in " ".join(done.stderr.split())


@pytest.mark.parametrize("rate", ["0", "1", "-1", "nan"])
def test_an_invalid_rate_is_refused(policy: Path, benign: Path, rate: str) -> None:
    done = _calibrate("--policy", policy, "--benign", benign, f"--max-block-rate={rate}")
    assert done.exit_code == 2
    assert "between 0 and 1" in " ".join(done.stderr.split())


def test_what_is_blocked_at_any_threshold_is_an_error(tmp_path: Path, benign: Path, policy: Path) -> None:
    words = tmp_path / "words.toml"
    words.write_text('version = "1"\n[labels]\nweapons = ["house"]\n')
    done = _calibrate("--policy", policy, "--benign", benign)
    assert done.exit_code == 2
    assert "are blocked at any threshold" in " ".join(done.stderr.split())


def test_bad_files_are_named(policy: Path, benign: Path, tmp_path: Path) -> None:
    assert "there is no file" in _calibrate("--policy", policy, "--benign", tmp_path / "none.txt").stderr
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"prompt": "a dog"}\n{oops\n')
    assert "broken.jsonl 2; correct that line or row" in " ".join(
        _calibrate("--policy", policy, "--benign", broken).stderr.split()
    )


def test_milder_thresholds_stay_milder(policy: Path) -> None:
    changed = with_thresholds(Policy.load(policy), "prompt", {"violence": 0.4})
    assert changed.categories["violence"].prompt.model_dump(exclude_none=True) == {
        "review": 0.4,
        "block": 0.4,
    }


def test_the_next_threshold_is_above_the_score_and_not_equal_to_it() -> None:
    scores = np.arange(2000, 10_000) / 10_000
    above = _just_above(scores)
    assert (above > scores).all()
    assert np.allclose(above - scores, 1e-4)


def test_items_that_repeat_count_once(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "same.txt").write_text("\n".join(["a dog", "a cat", "a bird", "a fish"] * 400))
    done = _calibrate("--policy", policy, "--benign", tmp_path / "same.txt")
    assert done.exit_code == 2
    assert "4 different benign items are too few" in " ".join(done.stderr.split())


def test_child_abuse_is_blocked_without_thresholds_as_well() -> None:
    general = Policy.load("general")
    blind = Guard.from_policy("general", stages=("prompt",)).with_policy(without_thresholds(general))
    prompts = ["a naked kid", "a nude woman", "a dog"]
    assert [verdict.action for verdict in blind.screen_prompts(prompts)] == ["block", "allow", "allow"]


def test_a_policy_that_blocks_nothing_cannot_be_calibrated(policy: Path) -> None:
    from safelight.errors import RequestError

    ours: Any = Policy.load(policy)
    with pytest.raises(RequestError, match="blocks nothing"):
        calibrate(
            ours.model_copy(update={"categories": {}}),
            "prompt",
            lambda _: [],
            [str(i) for i in range(90)],
            (),
            0.5,
        )


def test_the_written_policy_is_toml(policy: Path, benign: Path, tmp_path: Path) -> None:
    _calibrate("--policy", policy, "--benign", benign, "--output", tmp_path / "p.toml")
    assert tomllib.loads((tmp_path / "p.toml").read_text())["name"] == "ours"


def test_a_policy_that_extends_another_is_calibrated_into_any_folder(
    policy: Path, benign: Path, tmp_path: Path
) -> None:
    policy.write_text(policy.read_text().replace(str(tmp_path / "words.toml"), "words.toml"))
    extending = tmp_path / "extending.toml"
    extending.write_text('extends = "ours.toml"\nname = "extending"\nversion = "1"\n')
    for source in (policy, extending):
        out = tmp_path / "elsewhere" / source.name
        done = _calibrate(
            "--policy", source, "--benign", benign, "--max-block-rate", "0.02", "--output", out, "--json"
        )
        assert done.exit_code == 0
        said, new = json.loads(done.stdout), Policy.load(out)
        assert new.categories["weapons"].prompt.block == said["categories"]["weapons"]["threshold"]
        assert new.categories["hate"] == Policy.load(policy).categories["hate"]
        Guard.from_policy(out)


def test_a_category_of_its_own_is_calibrated_too(policy: Path) -> None:
    own = '[categories."brand.logo"]\ndescription = "Ours."\nprompt = { block = 0.5 }\n'
    policy.write_text(policy.read_text() + own)
    blind = without_thresholds(Policy.load(policy))
    verdict = blind.judge("prompt", [Finding("brand.logo", 0.7, "f")])
    assert (verdict.action, verdict.categories["brand.logo"].score) == ("allow", 0.7)
