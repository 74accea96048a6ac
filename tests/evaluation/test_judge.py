"""Judges are named in one line, and are not believed before their answers are checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from safelight.errors import FilterError, ModelError, RequestError
from safelight.evaluation.judge import FilterJudge, FunctionJudge, judged, load_judge
from safelight.policy import Policy
from safelight.storybook.judging import StorybookJudge
from safelight.types import Finding, Judgement

RED, BLUE = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")

SOURCE = """
def judge(images):
    return [{"red": image.getpixel((0, 0))[0] / 255, "blue": 0.3} for image in images]

number = 7
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes a module of judges; each test has one of its own name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, source: str = SOURCE) -> str:
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return write


def test_a_function_with_a_threshold_or_without(module: Callable[..., str]) -> None:
    name = module("colour_judge_one")
    plain = load_judge(f"{name}:judge")
    assert plain.judge([RED, BLUE]) == [
        Judgement({"red": 1.0, "blue": 0.3}, ("red",)),
        Judgement({"red": 0.0, "blue": 0.3}),
    ]
    strict = load_judge(f"{name}:judge: blue >= 0.3, red ≥ 0.9")
    assert [each.harms for each in strict.judge([RED, BLUE])] == [("blue", "red"), ("blue",)]
    assert plain.settings["judge_sha256"] == strict.settings["judge_sha256"] != ""
    assert plain.settings["judge_thresholds"] != strict.settings["judge_thresholds"]


def test_an_image_filter_of_a_policy_with_thresholds() -> None:
    policy = Policy.load("storybook")
    (name,) = policy.filters.image
    judge = load_judge(f"{name}: gun >= 0.5", policy)
    assert isinstance(judge, FilterJudge)
    (said,) = judge.judge([Image.new("RGB", (64, 64))])
    assert said.harms == ()
    assert judge.settings["judge_thresholds"] == {"gun": 0.5}


def test_a_registered_judge() -> None:
    assert isinstance(load_judge("storybook"), StorybookJudge)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("storybok", 'no judge or image filter "storybok".*did you mean "storybook"'),
        ("storybook-image", "needs a threshold"),
        ("storybook-image: gnu >= 0.5", 'did you mean "gun"'),
        ("storybook-image: gun >= 1.5", "not a probability"),
        ("storybook-image: gun >= 0", "not a probability"),
        ("storybook-image: gun >= 0.5.5", "not a probability"),
        ("storybook-image: >= 0.5", "not a judge with thresholds"),
        ("gun >= 0.5", "not a judge with thresholds"),
        ("no_such_module:judge", "cannot be imported"),
        ("json:judge", 'no function "judge"'),
        ("json:__name__", "not a function"),
    ],
)
def test_what_names_no_judge_is_refused(text: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        load_judge(text)


def test_a_module_that_fails_is_one_sentence(module: Callable[..., str]) -> None:
    name = module("colour_judge_two", "raise RuntimeError('no licence')\n")
    with pytest.raises(RequestError, match="failed while it was imported: RuntimeError: no licence"):
        load_judge(f"{name}:judge")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([], "0 answers for 1 images"),
        ([{}, {}], "2 answers for 1 images"),
        ([{"red": float("nan")}], "the probability nan"),
        ([{"red": 1.5}], "from 0 to 1"),
        ([{"red": "much"}], "'much'"),
        ([{3: 0.5}], "gave 3 the probability"),
        ([0.7], "gave float for an image"),
        (None, "raised TypeError"),
    ],
)
def test_a_function_that_answers_nonsense_is_said(answer: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        FunctionJudge("mine", lambda _: answer).judge([RED])


def test_a_function_that_raises_is_said() -> None:
    def judge(images: list[Image.Image]) -> Sequence[Mapping[str, float]]:
        raise ValueError("out of colours\nmore")

    with pytest.raises(ModelError, match=r'judge "mine" raised ValueError: out of colours\.$'):
        FunctionJudge("mine", judge).judge([RED])


class _Filter:
    name, version = "odd", "1"

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def find(self, images: Sequence[Image.Image]) -> Any:
        return self.answer


@pytest.mark.parametrize("answer", [[], [[], []], [FilterError("blind")], "", [[Ellipsis]]])
def test_a_filter_that_cannot_answer_is_no_judge(answer: Any) -> None:
    with pytest.raises(ModelError, match='the judge "odd" failed'):
        FilterJudge(_Filter(answer), {"red": 0.5}).judge([RED])


def test_of_several_findings_with_a_label_the_surest_counts() -> None:
    findings = [Finding("red", score, "odd") for score in (0.2, 0.7, 0.4)]
    (said,) = FilterJudge(_Filter([findings]), {"red": 0.7}).judge([RED])
    assert said == Judgement({"red": 0.7}, ("red",))


def test_every_judge_answers_for_every_image() -> None:
    class Short:
        name = "short"
        settings: Mapping[str, Any] = {}

        def judge(self, images: Sequence[Image.Image]) -> list[Judgement]:
            return [Judgement()]

    with pytest.raises(ModelError, match='"short" gave 1 answers for 2 images'):
        judged(Short(), [RED, BLUE])
    assert judged(Short(), []) == []
