from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from safelight.errors import FilterError
from safelight.filters.constant import Always, Never
from safelight.policy import Policy
from safelight.screening import PictureScreen, Screen
from safelight.types import Finding


class Broken:
    """A filter that answers with whatever ``answer`` gives."""

    name, version = "broken", "0"

    def __init__(self, answer: Callable[[list[Any]], Any]) -> None:
        self._answer = answer

    def find(self, items: list[Any]) -> Any:
        return self._answer(items)


def _raise(items: list[Any]) -> Any:
    raise RuntimeError("out of memory")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (_raise, "RuntimeError: out of memory"),
        (lambda items: [[Finding("violence", float("nan"), "broken")] for _ in items], r"not in \[0, 1\]"),
        (lambda items: [[Finding("violence", 1.5, "broken")] for _ in items], r"not in \[0, 1\]"),
        (lambda items: [[]], "1 answers for 2 items"),
        (lambda items: [], "0 answers for 2 items"),
        (lambda items: None, "TypeError"),
        (lambda items: [["violence"], []], "not a list of findings"),
        (lambda items: [None, None], "TypeError"),
    ],
)
def test_a_filter_that_fails_blocks_and_says_why(policy: Policy, answer: Any, reason: str) -> None:
    screen = Screen("prompt", policy, [Never, lambda: Broken(answer)])
    for verdict in screen(["a cat", "a dog"], "prompt"):
        assert verdict.action == "block"
        assert len(verdict.reasons) == 1
        assert re.search(reason, verdict.reasons[0])
        assert verdict.filters["broken"].problem == verdict.reasons[0]
        assert verdict.filters["never"].problem is None


def test_an_item_that_cannot_be_looked_at_is_blocked_alone(policy: Policy) -> None:
    screen = Screen("prompt", policy, [lambda: Broken(lambda items: [FilterError("it is torn."), []])])
    torn, whole = screen(["a cat", "a dog"], "prompt")
    assert (torn.action, whole.action) == ("block", "allow")
    assert torn.reasons == ('the filter "broken" could not look at it: it is torn.',)
    assert whole.filters["broken"].problem is None


def test_a_filter_that_hangs_is_left_behind(write_policy: Callable[..., Path]) -> None:
    policy = Policy.load(write_policy(("timeout_s = 10", "timeout_s = 0.05")))
    screen = Screen("prompt", policy, [lambda: Broken(lambda items: time.sleep(1))])
    (verdict,) = screen(["a cat"], "prompt")
    assert verdict.action == "block"
    assert "no answer within 0.05 s" in verdict.reasons[0]
    assert verdict.elapsed_ms < 900


def test_screening_stops_at_the_first_block(policy: Policy) -> None:
    asked: list[list[str]] = []

    def note(items: list[str]) -> list[list[Finding]]:
        asked.append(items)
        return [[] for _ in items]

    class Guns:
        name, version = "guns", "1"

        def find(self, items: list[str]) -> list[list[Finding]]:
            return [[Finding("gun", 1.0, self.name)] if "gun" in item else [] for item in items]

    verdicts = Screen("prompt", policy, [Guns, lambda: Broken(note)])(["a gun", "a cat"], "prompt")
    assert asked == [["a cat"]]
    assert [verdict.action for verdict in verdicts] == ["block", "allow"]
    assert [list(verdict.filters) for verdict in verdicts] == [["guns"], ["guns", "broken"]]


def test_all_that_is_found_is_told_whatever_would_be_blocked(policy: Policy) -> None:
    screen = Screen("prompt", policy, [lambda: Always("first", "gun"), lambda: Always("second", "bomb")])
    (known,), (found,) = screen.find(["", "a cat"], ["it is empty.", None])
    assert [each.label for each in found.findings] == ["gun", "bomb"]
    assert set(found.runs) == {"first", "second"}
    assert (known.findings, known.problem) == ((), "it is empty.")


def test_frames_are_told_apart_and_all_looked_at(policy: Policy, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    screen = PictureScreen("image", policy, [lambda: Always("gun")])
    film, broken = screen.find([tmp_path / "a.gif", b"no picture"])
    assert [each.frame for each in film] == [0, 1, 2]
    assert all(each.findings for each in film)
    assert "cannot be read" in (broken[0].problem or "")


def test_filters_of_one_class_stay_apart(policy: Policy) -> None:
    filters = [lambda: Always("first", "weapons", 0.2), lambda: Always("second", "weapons", 0.5)]
    (verdict,) = Screen("prompt", policy, filters)(["a cat"], "prompt")
    assert list(verdict.filters) == ["first", "second"]
    assert [finding.filter for finding in verdict.findings] == ["first", "second"]
    with pytest.raises(FilterError, match="same name"):
        Screen("prompt", policy, [Never, Never])(["a cat"], "prompt")


def test_a_stage_without_filters_is_an_error(policy: Policy) -> None:
    with pytest.raises(FilterError, match='policy "test" has no pair filter; list one'):
        Screen("pair", policy, [])(["a cat"], "picture")


def test_a_known_problem_blocks_without_running_anything(policy: Policy) -> None:
    screen = Screen("prompt", policy, [Never])
    bad, good = screen(["", "a cat"], "prompt", problems=["it is empty.", None])
    assert (bad.action, bad.reasons, bad.filters) == ("block", ("it is empty.",), {})
    assert good.action == "allow"
