"""Whatever a prompt is made of, a guard gives a verdict: blocked with a reason, or read by every filter."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings

from fuzz import prompts
from safelight.guard.guard import Guard
from safelight.guard.request import ITEM_LIMIT
from safelight.types import Verdict

POLICY = """
name = "bad input"
version = "1"
[filters]
prompt = ["lexicon", "classifier"]
[filters.options.lexicon]
words = "general"
[filters.options.classifier]
model = "KNIVES"
[categories.violence]
prompt = { block = 0.8 }
[categories."sexual.explicit"]
prompt = { block = 0.8 }
"""
# The first and the last character of every 128 that Unicode has, and of every 4096 where nothing is assigned.
STARTS = [(first, 128) for first in (*range(0x40000), *range(0xE0000, 0x110000)) if first % 128 == 0]
STARTS += [(first, 4096) for first in range(0x40000, 0xE0000, 4096)]
BLOCKS = [chr(each) for first, width in STARTS for each in (first, first + width - 1)]


@pytest.fixture(scope="module")
def guard(knives: Path, tmp_path_factory: pytest.TempPathFactory) -> Guard:
    path = tmp_path_factory.mktemp("policy") / "bad.toml"
    path.write_text(POLICY.replace("KNIVES", str(knives)))
    return Guard.from_policy(path)


def looked_at(verdict: Verdict) -> bool:
    """By both filters, or blocked for a reason."""
    if verdict.action == "block":
        return bool(verdict.reasons or verdict.findings)
    return set(verdict.filters) == {"lexicon", "classifier"} and not verdict.reasons


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        " \t\n ",
        "a" * 1_000_000,
        "a dog " * 170_000,
        "a dog \ud800 in a park",
        "a dog\x00 in a park",
        "a" + "\u0301" * 10_000,
        "\u200b" * 100,
        "\u202e" + "efink a" + "\u202c",
    ],
    ids=[
        "empty",
        "blank",
        "1 MB",
        "1 MB of words",
        "surrogate",
        "NUL",
        "marks",
        "invisible",
        "right to left",
    ],
)
def test_no_prompt_is_let_by_unread(prompt: str, guard: Guard) -> None:
    (verdict,) = guard.screen_prompts([prompt])
    assert looked_at(verdict)


def test_one_that_cannot_be_read_blocks_itself_alone(guard: Guard) -> None:
    actions = [
        v.action for v in guard.screen_prompts(["a dog", "\u200b\u200b", "\ud800", "a man with a knife"])
    ]
    assert actions == ["allow", "block", "block", "block"]


def test_every_block_of_unicode_is_read_or_refused(guard: Guard) -> None:
    named = [f"{character}{unicodedata.name(character, 'x')[:1]}" for character in BLOCKS]
    texts = [*BLOCKS, *named]
    for start in range(0, len(texts), ITEM_LIMIT):
        assert all(map(looked_at, guard.screen_prompts(texts[start : start + ITEM_LIMIT])))


@given(cases=prompts.cases)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_any_prompt_gets_the_same_verdict_in_any_company(cases: list[str]) -> None:
    prompts.check(cases)
