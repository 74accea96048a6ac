from __future__ import annotations

import dataclasses
import json
import math

import pytest
from PIL import Image

from safelight.types import (
    Action,
    Box,
    CategoryScore,
    Concept,
    FilterRun,
    Finding,
    HashMatch,
    Result,
    Span,
    Verdict,
)


def _verdict(
    action: Action = Action.ALLOW, subject: str = "prompt", index: int = 0, **fields: object
) -> Verdict:
    return Verdict("prompt", action, {}, (), "test 1", 1.0, subject=subject, index=index, **fields)  # type: ignore[arg-type]


def test_actions_are_ordered_by_severity_and_equal_to_their_names() -> None:
    assert Action.ALLOW < Action.REVIEW < Action.STEER < Action.BLUR < Action.BLOCK
    assert Action.BLOCK >= "blur"
    assert Action.REVIEW <= "review"
    assert Action.BLUR > "allow"
    assert max(Action.STEER, Action.REVIEW) == "steer"


@pytest.mark.parametrize("score", [math.nan, -0.1, 1.1, math.inf])
def test_a_finding_refuses_a_score_that_is_no_probability(score: float) -> None:
    with pytest.raises(ValueError, match=r"not in \[0, 1\]"):
        Finding("knife", score, "f")


@pytest.mark.parametrize(
    "sides",
    [
        (5, 5, -5, -5),
        (math.nan, 0, 1, 1),
        (0, 0, 1, math.inf),
        (0.6, 0, 0.5, 1),
        (0, 0.6, 1, 0.5),
        (-0.1, 0, 1, 1),
    ],
)
def test_a_box_lies_in_its_image(sides: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"not in order in \[0, 1\]"):
        Box(*sides)
    assert Box(0, 1, 0, 1) == Box(0.0, 1.0, 0.0, 1.0)


@pytest.mark.parametrize("span", [(-1, 2, "gun"), (3, 1, "gun"), (0, 3, "guns"), (0, 3, "")])
def test_a_span_is_as_long_as_its_text(span: tuple[int, int, str]) -> None:
    with pytest.raises(ValueError, match="a span from"):
        Span(*span)


def test_everything_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Finding("knife", 0.5, "f").score = 0.1  # type: ignore[misc]


def test_a_verdict_says_everything_in_json() -> None:
    evidence = (
        Span(0, 5, "knife"),
        Box(0, 0, 1, 1),
        Concept("violence", 0.3),
        HashMatch("bank", "7", 12),
        None,
    )
    verdict = Verdict(
        "image",
        Action.BLUR,
        {"violence": CategoryScore(0.6, Action.BLUR, 0.4, ("knife",))},
        tuple(Finding("knife", 0.6, "f", each) for each in evidence),
        "test 1",
        3.5,
        filters={"f": FilterRun("2", 3.5)},
    )
    said = json.loads(json.dumps(verdict.to_dict()))
    assert said["score"] == 0.6
    assert said["action"] == "blur"
    assert said["categories"]["violence"] == {
        "score": 0.6,
        "action": "blur",
        "threshold": 0.4,
        "labels": ["knife"],
    }
    assert said["filters"]["f"] == {"version": "2", "elapsed_ms": 3.5, "problem": None}
    kinds = [finding["evidence"] and finding["evidence"]["type"] for finding in said["findings"]]
    assert kinds == ["span", "box", "concept", "hashmatch", None]
    assert verdict.explain() == "blur: violence 0.60, from 0.40 (knife)"


def test_a_verdict_that_failed_closed_scores_one() -> None:
    failed = _verdict(Action.BLOCK, reasons=("the filter broke.",))
    assert failed.score == 1.0
    assert failed.explain() == "block: the filter broke."


def test_a_result_keeps_the_verdicts_of_its_images_apart() -> None:
    verdicts = (
        _verdict(index=0),
        _verdict(index=1),
        _verdict(Action.REVIEW, "negative_prompt"),
        _verdict(subject="generated_image", index=2),
        _verdict(Action.BLOCK, "generated_image", 3),
    )
    image = Image.new("RGB", (4, 4))
    result = Result((image,), (2,), verdicts, "id", 7, "model", images_per_prompt=2)
    assert result.action == "block"
    assert result.action_of(2) == "review"
    assert result.action_of(3) == "block"
    assert result.verdicts_of(2) == (verdicts[1], verdicts[2], verdicts[3])
    assert json.loads(json.dumps(result.to_dict()))["indices"] == [2]
    assert "images" not in result.to_dict()
