from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from safelight.filters.constant import Always, Never
from safelight.guard.guard import Guard
from safelight.guard.negative_prompts import reversed_because
from safelight.policy import Policy
from safelight.types import Finding, Result

_CASES = tomllib.loads((Path(__file__).parent / "corpus" / "negative_prompts.toml").read_text("utf-8"))[
    "cases"
]
USUAL: list[str] = [prompt for case in _CASES for prompt in case["prompts"]]


def blank(**arguments: Any) -> Any:
    """A pipeline that draws nothing."""
    return SimpleNamespace(images=[Image.new("RGB", (8, 8)) for _ in arguments["prompt"]])


@cache
def general() -> Guard:
    return Guard.from_policy("general", without_image_filter=True)


def ask(guard: Guard, negative: Sequence[str] | str, prompt: str = "a cat", **arguments: Any) -> Result:
    prompts = [prompt] * (1 if isinstance(negative, str) else len(negative))
    return guard.generate(blank, prompts, negative_prompt=negative, **arguments)


def test_the_usual_negative_prompts_pass() -> None:
    assert len(set(USUAL)) >= 60
    result = ask(general(), USUAL, guidance_scale=7.5)
    wrong = [
        f"{USUAL[verdict.index]!r}: {verdict.explain()}"
        for verdict in result.verdicts
        if verdict.subject == "negative_prompt" and verdict.action != "allow"
    ]
    assert not wrong, "\n".join(wrong)
    assert len(result.images) == len(USUAL)


def test_the_same_texts_are_prompts_where_the_scale_turns_them_round() -> None:
    as_prompts = [verdict.action for verdict in general().screen_prompts(USUAL)]
    for scale in (-7.5, 0.5):
        result = ask(general(), USUAL, guidance_scale=scale)
        said = [verdict.action for verdict in result.verdicts if verdict.subject == "negative_prompt"]
        assert said == as_prompts
        assert result.images == ()
    assert as_prompts.count("block") >= 8  # type: ignore[arg-type]


def test_a_spared_negative_prompt_keeps_its_findings_and_says_why(guard: Guard) -> None:
    result = ask(guard, "a gun")
    prompt, verdict = result.verdicts[:2]
    assert (result.action, verdict.action, verdict.subject) == ("allow", "allow", "negative_prompt")
    assert (prompt.notes, verdict.reasons) == ((), ())
    assert verdict.categories["weapons"].score == 1.0
    assert (verdict.categories["weapons"].action, verdict.categories["weapons"].threshold) == ("allow", None)
    assert [finding.label for finding in verdict.findings] == ["gun"]
    assert verdict.explain().startswith("allow: a negative prompt names what the image should not show")
    assert verdict.to_dict()["notes"] == list(verdict.notes)
    assert ask(guard, "a dog").verdicts[1].notes == ()


def test_a_turned_negative_prompt_is_blocked_with_the_cause_and_did_not_fail(guard: Guard) -> None:
    verdict = ask(guard, "a gun", guidance_scale=0.5).verdicts[1]
    assert (verdict.action, verdict.reasons) == ("block", ())
    assert verdict.explain().endswith("screened as a prompt, because guidance_scale is 0.5")


@pytest.mark.parametrize(
    "arguments",
    [
        {"guidance_scale": 7.5}, {"guidance_scale": 1.0}, {"guidance_scale": None},
        {"guidance_scale": [2, 3.0]}, {"true_cfg_scale": 4.0, "guidance_scale": 3.5},
        {"guidance_rescale": 0.7}, {"guidance_rescale": 0.0}, {"pag_scale": 0.0}, {"eta": -1},
        {"controlnet_conditioning_scale": [0.0, 0.5]}, {"scale_factor": 20}, {"use_dynamic_cfg": False},
        {"decoder_guidance_scale": 0.0}, {"guidance_scale": 7.5, "image_guidance_scale": 1.5}, {},
    ],
)  # fmt: skip
def test_ordinary_settings_turn_nothing_round(arguments: dict[str, Any]) -> None:
    assert reversed_because(blank, arguments, {"negative_prompt": ("a gun",)}, ["a cat"]) is None


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ({"guidance_scale": 0.99}, "guidance_scale is 0.99"),
        ({"guidance_scale": 0}, "guidance_scale is 0"),
        ({"guidance_scale": -7.5}, "guidance_scale is -7.5"),
        ({"guidance_scale": [7.5, 0.5]}, "guidance_scale is 0.5"),
        ({"guidance_scale_2": 0.5}, "guidance_scale_2 is 0.5"),
        ({"guidance_schedule": (7.0, -3.0)}, "guidance_schedule is -3"),
        ({"true_cfg_scale": -1.0, "guidance_scale": 3.5}, "true_cfg_scale is -1"),
        ({"guidance_rescale": 1.5}, "guidance_rescale is 1.5"),
        ({"guidance_rescale": -0.5}, "guidance_rescale is -0.5"),
        ({"audio_guidance_rescale": 2}, "audio_guidance_rescale is 2"),
        ({"pag_scale": -3.0}, "pag_scale is -3"),
        ({"decoder_guidance_scale": -1}, "decoder_guidance_scale is -1"),
        (
            {"guidance_scale": 2.0, "image_guidance_scale": 3.0},
            "image_guidance_scale is above guidance_scale",
        ),
    ],
)
def test_settings_that_turn_a_negative_prompt_round(arguments: dict[str, Any], cause: str) -> None:
    assert reversed_because(blank, arguments, {"negative_prompt": ("a gun",)}, ["a cat"]) == cause
    assert reversed_because(blank, arguments, {"prompt_2": ("a gun",)}, ["a cat"]) is None


@pytest.mark.parametrize(
    "prompt", [".", ",,, ", "()", "\u200b", "...!?", "- -", "\u3000\u3002", "_", "\u3164\u2800"]
)
def test_beside_an_empty_prompt_a_negative_prompt_is_a_prompt(prompt: str) -> None:
    assert (
        reversed_because(blank, {}, {"negative_prompt": ("a gun",)}, ["a cat", prompt]) == "a prompt is empty"
    )


@pytest.mark.parametrize("prompt", ["a", "7", "🐈", "猫", "חתול", "☀"])
def test_a_short_prompt_is_not_empty(prompt: str) -> None:
    assert reversed_because(blank, {}, {"negative_prompt": ("a gun",)}, [prompt]) is None


@pytest.mark.parametrize(
    "text",
    [
        "(gun:-1)", "( gun : -0.5 )", "gun::-2", "(gun)-1.5", "(gun:\u22121)",
        '("a cat", "gun").blend(1, -1)', "[gun:-.5]", "(gun\uff1a-1)", '("gun", "cat").and(-1, 1)',
    ],
)  # fmt: skip
def test_a_negative_weight_turns_a_negative_prompt_round(text: str) -> None:
    for negative, prompt in ((text, "a cat"), ("a gun", text)):
        assert (
            reversed_because(blank, {}, {"neg_prompt": (negative,)}, [prompt])
            == "a word has a negative weight"
        )


@pytest.mark.parametrize(
    "text", ["(gun:1.3)", "gun, low-res", "((gun))", "gun++", "16:9, 3-legged", "rating:x-2"]
)
def test_other_weights_turn_nothing_round(text: str) -> None:
    assert reversed_because(blank, {}, {"negative_prompt": (text,)}, ["a cat"]) is None


def test_the_pipelines_own_scale_counts_where_a_call_names_none() -> None:
    def odd(prompt: str, guidance_scale: float = 0.5) -> None: ...

    negative = {"negative_prompt": ("a gun",)}
    assert reversed_because(odd, {}, negative, ["a cat"]) == "guidance_scale is 0.5"
    assert reversed_because(odd, {"guidance_scale": 2}, negative, ["a cat"]) is None
    assert reversed_because(object(), {}, negative, ["a cat"]) is None


@pytest.mark.parametrize("name", ["negative_prompt", "negative_prompt_2", "negative_prompt_3", "neg_prompt"])
def test_every_negative_prompt_is_spared_and_nothing_else(guard: Guard, name: str) -> None:
    arguments: dict[str, Any] = {name: "a gun"}
    result = guard.generate(blank, "a cat", **arguments)
    assert [verdict.subject for verdict in result.verdicts if verdict.stage == "prompt"] == ["prompt", name]
    assert result.action == "allow"
    assert guard.generate(blank, "a cat", cross_attention_kwargs={name: "a gun"}).action == "block"


def test_what_is_always_blocked_is_blocked_in_a_negative_prompt(policy: Policy) -> None:
    class Second:
        """Is asked although the first filter saw something already."""

        name, version = "second", "1"

        def find(self, prompts: Sequence[str]) -> list[list[Finding]]:
            return [[Finding("csae", 0.9, self.name)] if "X" in prompt else [] for prompt in prompts]

    guard = Guard(policy, {"prompt": [lambda: Always("first", "gun"), Second], "image": [Never]})
    screen = guard._screens["prompt"]
    assert list(screen.filters) == ["first", "second"]
    result = guard.generate(_Reading({"X"}), "a cat", negative_prompt="X")
    assert result.images == ()
    verdict = next(v for v in result.verdicts if v.subject == "negative_prompt")
    assert (verdict.action, list(verdict.filters)) == ("block", ["first", "second"])
    assert verdict.categories["csae"].action == "block"
    assert verdict.categories["weapons"].action == "allow"


class _Reading:
    def __init__(self, never: set[str]) -> None:
        self.never = never

    def __call__(self, **arguments: Any) -> Any:
        assert arguments["negative_prompt"] not in self.never
        return blank(**arguments)


def test_a_filter_that_fails_on_a_negative_prompt_blocks(policy: Policy) -> None:
    class Broken:
        name, version = "broken", "1"

        def find(self, prompts: Sequence[str]) -> list[list[Finding]]:
            if "a dog" in prompts:
                raise MemoryError("no memory")
            return [[] for _ in prompts]

    guard = Guard(policy, {"prompt": [Broken], "image": [Never]})
    result = ask(guard, "a dog")
    assert (result.action, result.images) == ("block", ())
    assert "MemoryError" in result.verdicts[1].reasons[0]
    assert result.verdicts[1].score == 1.0
