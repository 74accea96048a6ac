from __future__ import annotations

from safelight.demo.prompts import load_kinds
from safelight.guard.guard import Guard
from safelight.storybook.vocabulary import THINGS

KINDS = {kind.name: kind for kind in load_kinds()}
TEXTS = [prompt.text for kind in KINDS.values() for prompt in kind.prompts]


def test_there_are_enough_of_every_kind_and_no_two_alike() -> None:
    assert len(TEXTS) == len(set(TEXTS)) >= 16
    wanted = {"benign", "by itself", "in context", "held-out word", "altered spelling", "association"}
    assert wanted <= KINDS.keys()
    assert all(prompt.why.endswith(".") for kind in KINDS.values() for prompt in kind.prompts)


def test_harm_in_context_stands_beside_its_benign_counterpart() -> None:
    asked = [prompt.harmful for prompt in KINDS["in context"].prompts]
    assert asked == [True, False] * (len(asked) // 2)


def test_what_the_word_list_misses_is_what_the_demo_says() -> None:
    guard = Guard.from_policy("storybook")
    hidden = guard.screen_prompts([p.text for p in KINDS["held-out word"].prompts])
    assert {verdict.action for verdict in hidden} == {"allow"}
    altered = guard.screen_prompts([p.text for p in KINDS["altered spelling"].prompts])
    assert [verdict.action for verdict in altered] == ["block", "block", "allow"]


def test_held_out_prompts_use_held_out_words() -> None:
    known = {word for thing in THINGS.values() for word in thing.held_out}
    for prompt in KINDS["held-out word"].prompts[:3]:
        assert known & set(prompt.text.split())
