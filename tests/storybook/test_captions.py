from __future__ import annotations

import random

import pytest

from safelight.storybook.captions import Habits, captions, full_caption, misspelt, user_caption
from safelight.storybook.plan import Plan, sample_plan
from safelight.storybook.truth import Relation
from safelight.storybook.vocabulary import HYPERNYMS, LABELS, PLACES, STYLES, THINGS, plural, with_article

PLAIN = Habits(hypernyms=0, leave_out=0, violence=0, misspelling=0, letters=0)


def test_every_object_has_words_of_both_kinds_and_no_word_means_two_things() -> None:
    words = [word for thing in THINGS.values() for word in thing.words]
    assert len(words) == len(set(words))
    for thing in THINGS.values():
        assert len(thing.words) >= 4
        assert thing.held_out
        assert not set(thing.named) & set(thing.held_out)
    assert {label for members in HYPERNYMS.values() for label in members} <= set(LABELS)


def test_the_full_caption_names_everything() -> None:
    plan = Plan(
        ("chef", "knife", "bread"),
        (Relation(0, "holding", 1), Relation(0, "next to", 2)),
        "kitchen",
        "mosaic",
    )
    assert full_caption(plan) == "a chef holding a knife next to bread in the kitchen, mosaic"


@pytest.mark.parametrize("i", range(60))
def test_users_name_what_is_there_and_nothing_else(i: int) -> None:
    plan = sample_plan(random.Random(f"caption {i}"))
    text = user_caption(plan, random.Random(i), PLAIN)
    if plan.setting:
        return
    named = [label for k, label in enumerate(plan.objects) if k not in plan.unnamed]
    for label in named:
        words = [w for word in THINGS[label].words for w in (word, plural(word))]
        assert any(word in text for word in words), f"{label} is missing from {text!r}"
    hidden = {plan.objects[k] for k in plan.unnamed} - set(named)
    for label in hidden:
        assert label not in text


def test_only_the_full_caption_names_associated_objects() -> None:
    plan = Plan(("pirate", "sword"), (Relation(0, "holding", 1),), "beach", "cartoon", unnamed=frozenset({1}))
    first, *others = captions(plan, random.Random(0), count=50)
    assert "sword" in first
    assert not any(word in text.lower() for text in others for word in THINGS["sword"].words)


def test_counts_are_worded() -> None:
    plan = Plan(("dog", "dog"), (Relation(0, "next to", 1),), "park", "cartoon")
    texts = [user_caption(plan, random.Random(i), PLAIN) for i in range(60)]
    assert any("two dogs" in text for text in texts)


def test_style_is_named_unless_it_is_cartoon() -> None:
    for style in ("pencil sketch", "mosaic"):
        plan = Plan(("dog",), (), "park", style)
        for i in range(40):
            text = user_caption(plan, random.Random(i), PLAIN)
            assert any(word in text for word in STYLES[style].words), text


def test_places_are_worded() -> None:
    plan = Plan(("dog",), (), "night", "cartoon")
    texts = [user_caption(plan, random.Random(i), PLAIN) for i in range(200)]
    assert any("under the night sky" in t for t in texts)
    assert {w for w in PLACES["night"].words if any(w in t for t in texts)} == set(PLACES["night"].words)


@pytest.mark.parametrize(
    ("word", "several", "one"),
    [("knife", "knives", "a knife"), ("axe", "axes", "an axe"), ("bread", "breads", "bread"),
     ("child", "children", "a child"), ("wine bottle", "wine bottles", "a wine bottle")],
)  # fmt: skip
def test_grammar(word: str, several: str, one: str) -> None:
    assert plural(word) == several
    assert with_article(word) == one


def test_a_typing_error_changes_one_letter_or_swaps_two() -> None:
    for i in range(200):
        slipped = misspelt("bicycle", random.Random(i))
        assert abs(len(slipped) - 7) <= 1
        assert slipped[0] == "b"
        assert sorted(set("bicycle") - set(slipped)) in ([], ["y"], ["l"], ["i"], ["c"], ["e"])
