from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.errors import PromptError, RequestError
from safelight.guard.request import Request, RequestLimits, limits_of, prompt_problem


@pytest.mark.parametrize(
    "prompt",
    ["a cat", "🐈 on a 🚲", "חתול בגינה", "a\tcat\non a mat", "word " * 300, "x" * 10_000, "e\u0301"],
)
def test_ordinary_and_odd_text_is_accepted(prompt: str) -> None:
    assert Request.of(prompt).prompts == (prompt,)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ([], "the list of prompts is empty"),
        (["a cat", ""], "empty"),
        (["a cat", 3], "a prompt is text, not int"),
        (None, "give a list of prompts, not NoneType"),
        ("a\x00cat", r"control character U\+0000 at 1"),
        ("a cat\x1b[31m", r"control character U\+001B at 5"),
        ("a \ud83d cat", "unpaired surrogate character at 2"),
        ("x" * 10_001, "10001 characters; shorten it to 10000"),
    ],
)
def test_what_cannot_be_a_prompt_is_refused(prompt: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        Request.of(prompt)


@pytest.mark.parametrize("n", [0, -1, 1.0, True, "2"])
def test_the_number_of_images_is_a_positive_whole_number(n: Any) -> None:
    with pytest.raises(RequestError, match="at least 1"):
        Request.of("a cat", n)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True, "7"])
def test_the_seed_is_a_whole_number(seed: Any) -> None:
    with pytest.raises(RequestError, match="a seed is a whole number"):
        Request.of("a cat", seed=seed)


def test_what_a_request_may_ask_for_is_limited() -> None:
    limits = RequestLimits(prompts=3, n=4, images=6, characters=10, characters_of_all=15)
    assert Request.of(["a cat", "a dog", "a cow"], 2, limits=limits).n == 2
    for prompt, n, says in (
        (["a cat"] * 4, 1, "4 prompts are too many; give at most 3"),
        ("a cat", 5, "too many images; ask for at most 4 for each prompt and 6 in one call"),
        (["a cat"] * 2, 4, "too many images"),
        ("a cat", 10**5000, "too many images"),
        ("a cat in a park", 1, "15 characters; shorten it to 10"),
        (["a cat here"] * 2, 1, "20 characters together; shorten them to 15"),
    ):
        with pytest.raises(RequestError, match=says):
            Request.of(prompt, n, limits=limits)


def test_the_usual_limits() -> None:
    assert Request.of(["a cat"] * 256, 4).n == 4
    assert Request.of("a cat", 64).n == 64
    for prompt, n in ((["a cat"] * 257, 1), ("a cat", 65), (["a cat"] * 20, 64), (["x" * 100_000] * 11, 1)):
        with pytest.raises(RequestError, match=r"(many|shorten)"):
            Request.of(prompt, n)


@pytest.mark.parametrize("limit", [{"n": 0}, {"prompts": -1}, {"images": 1.5}, {"characters": True}])
def test_a_limit_is_a_positive_whole_number(limit: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=f"the limit {next(iter(limit))} is a positive whole number"):
        RequestLimits(**limit)


def test_the_prompt_limit_is_short_for_one_of_the_limits() -> None:
    assert limits_of(None, None) == RequestLimits()
    assert limits_of(RequestLimits(n=2), 10) == RequestLimits(n=2, characters=10)


def test_a_seed_of_five_thousand_digits_is_refused() -> None:
    with pytest.raises(RequestError, match="a seed is a whole number"):
        Request.of("a cat", seed=10**5000)


def test_a_prompt_is_made_plain_before_anybody_reads_it() -> None:
    class Shifty(str):
        def __str__(self) -> str:
            return "a gun"

    class Turning(list[str]):
        said = 0

        def __iter__(self) -> Any:
            self.said += 1
            return iter(["a cat" if self.said == 1 else "a gun"])

    for prompt in (Shifty("a cat"), [Shifty("a cat")], Turning(["a cat"])):
        prompts = Request.of(prompt).prompts
        assert (prompts, type(prompts[0])) == (("a cat",), str)


@given(st.text(st.characters(exclude_categories=()), max_size=50))
def test_accepted_prompts_are_valid_utf8(prompt: str) -> None:
    if prompt_problem(prompt) is None:
        assert prompt.encode("utf-8")
        assert "\x00" not in prompt
