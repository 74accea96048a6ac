from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from safelight.cli import app
from safelight.evaluation.policy_cases import Expectation
from safelight.policy import Policy, packaged_policies


def _policy(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["policy", *map(str, arguments)], catch_exceptions=False)


def test_a_good_policy_has_no_problems(write_policy: Callable[..., Path]) -> None:
    done = _policy("check", write_policy())
    assert (done.exit_code, done.stdout.strip().rpartition(": ")[2]) == (0, "no problems found.")
    done = _policy("check", "general", "--stage", "prompt", "--json")
    assert (done.exit_code, json.loads(done.stdout)["problems"]) == (0, [])


def test_all_problems_are_listed_with_their_lines(write_policy: Callable[..., Path]) -> None:
    path = write_policy(
        ('words = "storybook"', 'words = "none.toml"'),
        ('image = ["never"]', 'image = ["nevr"]'),
        ('gun = ["weapons"]', 'gun = ["wepons"]'),
        ("# pair", "pair"),
    )
    done = _policy("check", path, "--json")
    assert done.exit_code == 2
    problems = json.loads(done.stdout)["problems"]
    assert [problem.removeprefix(f"{path}, ").partition(":")[0] for problem in problems] == [
        "line 23",
        "line 11",
        "line 10",
        "line 20",
    ]
    shown = _policy("check", path)
    assert (shown.exit_code, shown.stdout.splitlines()) == (2, problems)


@pytest.mark.parametrize("text", ["a = ", "name = 3\n[filters]\nx = 1\n", "a = " + "[" * 1000])
def test_invalid_policies_are_reported_in_the_same_way(write_policy: Callable[..., Path], text: str) -> None:
    done = _policy("check", write_policy(text=text))
    assert done.exit_code == 2
    assert all("policy.toml" in line for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", packaged_policies())
def test_a_policy_is_shown_whole_and_can_be_read_again(name: str, tmp_path: Path) -> None:
    path = tmp_path / "ours" / "ours.toml"
    path.parent.mkdir()
    (path.parent / "words.toml").write_text('version = "1"\n[labels]\nviolence = ["zva"]\n')
    path.write_text(
        f'extends = "{name}"\nname = "ours"\nversion = "2"\n[filters.options.lexicon]\nwords = "words.toml"\n'
        '[categories]\nillegal = false\n[categories."violence"]\nprompt = { block = 0.9 }\n'
    )
    shown, ours = tmp_path / "shown.toml", Policy.load(path)
    shown.write_text(_policy("show", path).stdout)
    again = Policy.load(shown)
    assert (again.name, again.version, again.categories) == (ours.name, ours.version, ours.categories)
    assert again.filters.options["lexicon"] == {"words": str(path.parent / "words.toml")}
    assert all(rule.category != "illegal" for rule in again.context)
    as_json = json.loads(_policy("show", path, "--json").stdout)
    assert as_json["id"] == ours.id
    assert as_json["categories"]["violence"]["prompt"]["block"] == 0.9


@pytest.fixture
def cases(tmp_path: Path) -> Callable[..., Path]:
    def write(*rows: dict[str, Any]) -> Path:
        path = tmp_path / "cases.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def test_cases_that_get_another_action_are_printed(
    write_policy: Callable[..., Path], cases: Callable[..., Path]
) -> None:
    good = [
        {"prompt": "a cat", "expect": "allow"},
        {"prompt": "a gun", "expect": ["review", "block"]},
        {"prompt": "", "expect": "block"},
    ]
    done = _policy("test", write_policy(), cases(*good))
    assert (done.exit_code, done.stdout) == (0, "3 of 3 cases are as expected by test 1.\n")
    path = cases(*good, {"prompt": "a cat", "expect": ">=review"}, {"prompt": "a gun", "expect": "<=blur"})
    done = _policy("test", write_policy(), path)
    assert done.exit_code == 3
    assert "line 4  a cat  expected >=review  allow: nothing found" in done.stdout
    said = json.loads(_policy("test", write_policy(), path, "--json").stdout)
    assert (said["cases"], said["met"]) == (5, 3)
    assert [(failure["line"], failure["action"]) for failure in said["failures"]] == [
        (4, "allow"),
        (5, "block"),
    ]


def test_images_and_pairs_are_cases_too(
    write_policy: Callable[..., Path], cases: Callable[..., Path], tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    options = '[filters.options.judge]\nuse = "always"\n\n[filters.options.lexicon]'
    path = write_policy(
        ("# pair", "pair"),
        ("timeout_s", 'pair = ["judge"]\ntimeout_s'),
        ("[filters.options.lexicon]", options),
    )
    done = _policy(
        "test",
        path,
        cases(
            {"path": "red.png", "expect": "allow"}, {"path": "red.png", "prompt": "red", "expect": "block"}
        ),
    )
    assert done.exit_code == 0, done.output
    done = _policy("test", path, cases({"path": "none.png", "expect": "block"}))
    assert done.exit_code == 2, "a block of what could not be read says nothing of the policy"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is not valid JSON"),
        ("[" * 100_000, "line 1 is not valid JSON"),
        ("3", 'a case is an object with "expect"'),
        ('{"prompt": "a cat"}', 'a case is an object with "expect"'),
        ('{"expect": "block"}', 'a case is an object with "expect"'),
        ('{"prompt": "a cat", "expect": "blok"}', 'there is no action "blok".*did you mean "block"'),
        ('{"prompt": "a cat", "expect": []}', '"expect" must be an action'),
        ('{"prompt": "a cat", "expect": [["x", 3]]}', "no action|must be an action"),
        ('{"prompt": 3, "expect": "block"}', '"prompt" and "path" must be text'),
        ('{"prompt": "a cat", "expects": "block", "expect": "block"}', 'did you mean "expect"'),
        ("", "has no cases"),
    ],
)
def test_invalid_cases_are_refused(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "cases.jsonl").write_text(line + "\n")
    done = _policy("test", "storybook", tmp_path / "cases.jsonl")
    assert done.exit_code == 2
    assert re.search(message, done.stderr.replace("\n", " ")), done.stderr
    assert _policy("test", "storybook", tmp_path / "none.jsonl").exit_code == 2


def test_expectations_name_actions() -> None:
    assert Expectation.of(">=steer").actions == {"steer", "blur", "block"}
    assert Expectation.of("<=review").actions == {"allow", "review"}
    assert Expectation.of(["allow", ">=blur"]).actions == {"allow", "blur", "block"}


def _screened(*arguments: str, policy: str | Path = "storybook") -> str:
    given = ["screen", *arguments, "--policy", str(policy), "--json"]
    return CliRunner().invoke(app, given, catch_exceptions=False).stdout


def test_two_policies_are_compared_on_what_was_found_before(tmp_path: Path) -> None:
    records = tmp_path / "verdicts.jsonl"
    records.write_text(_screened("a gun", "a cat", "an axe in a forest"))
    milder = tmp_path / "milder.toml"
    milder.write_text(
        'extends = "storybook"\nname = "milder"\nversion = "1"\n[labels]\naxe = ["weapons"]\n'
        '[categories."weapons"]\nprompt = { review = 0.5, block = false }\n'
    )
    done = _policy("diff", "storybook", milder, "--on", records)
    assert done.exit_code == 0
    assert "block  review  1  weapons 1.00, from 0.50 (gun)" in done.stdout
    assert (
        "The action of 2 of 3 items changes: 1 from block to review, 1 from allow to review." in done.stdout
    )
    said = json.loads(_policy("diff", "storybook", milder, "--on", records, "--json").stdout)
    assert (said["judged"], said["skipped"], said["b"]) == (3, 0, "milder 1 (storybook 2026.7)")
    assert [(change["item"], change["from"], change["to"]) for change in said["changes"]] == [
        (1, "block", "review"),
        (3, "allow", "review"),
    ]
    assert not json.loads(_policy("diff", "general", "general", "--on", records, "--json").stdout)["changes"]


def test_boxes_of_records_decide(tmp_path: Path) -> None:
    held, apart = (0.1, 0.0, 0.5, 1.0), (0.6, 0.0, 0.9, 1.0)
    rows = []
    for place in (held, apart):
        boxes = {"sword": (0.0, 0.0, 0.2, 0.2), "man": place}
        findings = [
            {
                "label": label,
                "score": 1.0,
                "filter": "eye",
                "evidence": {
                    "type": "box",
                    **dict(zip(("left", "top", "right", "bottom"), box, strict=True)),
                },
            }
            for label, box in boxes.items()
        ]
        rows.append({"path": f"{place[0]}.png", "findings": findings, "action": "allow"})
    rows.append({"path": "broken.png", "findings": [], "action": "block", "error": "it cannot be read."})
    records, blind = tmp_path / "records.jsonl", tmp_path / "blind.toml"
    records.write_text("\n".join(map(json.dumps, rows)))
    blind.write_text('extends = "storybook"\nname = "blind"\nversion = "1"\ncontext = []\n')
    done = _policy("diff", "storybook", blind, "--on", records)
    assert "block  allow  0.1.png  nothing found" in done.stdout
    assert (
        "The action of 1 of 2 items changes: 1 from block to allow; 1 could not be screened." in done.stdout
    )


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"id": 1}',
        '{"id": 1, "findings": [3]}',
        '{"id": 1, "findings": [{"label": "x", "score": 3, "filter": "f", "evidence": null}]}',
        '{"id": 1, "findings": [{"label": [], "score": 1, "filter": "f", "evidence": null}]}',
        '{"id": 1, "findings": [{"label": "x", "score": 1, "filter": "f", "evidence": {"type": "box"}}]}',
        '{"id": 1, "findings": [{"label": "x", "score": 1, "filter": "f", "evidence": [1]}]}',
    ],
)
def test_invalid_records_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "records.jsonl").write_text("\n" + line)
    done = _policy("diff", "storybook", "general", "--on", tmp_path / "records.jsonl")
    assert done.exit_code == 2
    assert "line 2 is not a record of" in done.stderr
    assert _policy("diff", "storybook", "general", "--on", tmp_path / "none.jsonl").exit_code == 2
