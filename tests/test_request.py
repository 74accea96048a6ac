from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.errors import PromptError, RequestError
from safelight.request import Request, prompt_problem


@pytest.mark.parametrize(
    "prompt",
    ["a cat", "🐈 on a 🚲", "חתול בגינה", "a\tcat\non a mat", "word " * 300, "x" * 100_000, "e\u0301"],
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
        ("a \ud83d cat", "not valid text at 2"),
        ("x" * 100_001, "100001 characters; shorten it to 100000"),
    ],
)
def test_what_cannot_be_a_prompt_is_refused(prompt: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        Request.of(prompt)


@pytest.mark.parametrize("n", [0, -1, 1.0, True, "2"])
def test_the_number_of_pictures_is_a_positive_whole_number(n: Any) -> None:
    with pytest.raises(RequestError, match="at least 1"):
        Request.of("a cat", n)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True, "7"])
def test_the_seed_is_a_whole_number(seed: Any) -> None:
    with pytest.raises(RequestError, match="a seed is a whole number"):
        Request.of("a cat", seed=seed)


@given(st.text(st.characters(exclude_categories=()), max_size=50))
def test_accepted_prompts_are_valid_utf8(prompt: str) -> None:
    if prompt_problem(prompt) is None:
        assert prompt.encode("utf-8")
        assert "\x00" not in prompt
