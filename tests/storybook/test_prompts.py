from __future__ import annotations

import random
import re
from itertools import takewhile

import pytest

from safelight.alignment.text_encoder import Prompts
from safelight.storybook.plan import Plan, sample_plan
from safelight.storybook.prompts import TrainingPrompts, reworded_for, training_prompts, without_harm
from safelight.storybook.vocabulary import ANIMALS, HAZARDS, PEOPLE, PLACES, STYLES, THINGS


@pytest.fixture(scope="module")
def made() -> TrainingPrompts:
    return training_prompts(400)


def _says(label: str, prompt: str) -> bool:
    return any(re.search(rf"\b{word}\b", prompt, re.IGNORECASE) for word in THINGS[label].words)


def test_they_are_deterministic_and_all_different(made: TrainingPrompts) -> None:
    assert training_prompts(400) == made
    assert training_prompts(400, seed=1) != made
    assert 390 < len(set(made.safe)) == len(made.safe) <= 400
    assert 380 < len(made.pairs) <= 400
    Prompts((), made.safe, made.pairs)  # which refuses prompts that are unsafe and safe


def test_no_held_out_synonym_is_in_them(made: TrainingPrompts) -> None:
    every = " | ".join((*made.safe, *(each for pair in made.pairs for each in pair)))
    for entry in (*THINGS.values(), *PLACES.values(), *STYLES.values()):
        for word in entry.held_out:
            assert not re.search(rf"\b{word}\b", every, re.IGNORECASE)


def test_the_plainest_come_first(made: TrainingPrompts) -> None:
    """Training steers unsafe prompts towards them, so they have nobody whom a hazard could harm."""
    for prompt in made.safe[:20]:
        assert not any(_says(label, prompt) for label in (*PEOPLE, *ANIMALS, *HAZARDS)), prompt


def test_safe_prompts_have_hazards_that_are_harmless_in_context(made: TrainingPrompts) -> None:
    for label in ("gun", "bomb", "blood"):  # harm wherever they are
        assert not any(_says(label, prompt) for prompt in made.safe)
        assert not any(_says(label, safe) for _, safe in made.pairs)
    with_hazard = [any(_says(label, prompt) for label in HAZARDS) for prompt in made.safe]
    assert not any(with_hazard[:190])
    assert sum(with_hazard[200:]) > 150  # some are called by what they are, "a tool"


def test_half_of_the_pairs_are_harmful_in_context_only(made: TrainingPrompts) -> None:
    always = [one for one, _ in made.pairs if any(_says(label, one) for label in ("gun", "bomb", "blood"))]
    assert len(always) == pytest.approx(len(made.pairs) / 2, rel=0.1)  # some are "a dangerous thing"


def test_pairs_differ_in_one_word_for_each_exchanged_object(made: TrainingPrompts) -> None:
    """A name may be two words, and its article may change."""
    for one, other in made.pairs:
        a, b = one.casefold().split(), other.casefold().split()
        front = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
        back = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a[::-1], b[::-1], strict=False)))
        things = sum(_says(label, one) for label in HAZARDS)
        assert things > 1 or max(len(a), len(b)) - front - back <= 3, (one, other)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a child with an axe in the park", "a child with a flower in the park"),
        ("A CHILD WITH AN AXE", "A CHILD WITH A FLOWER"),
        ("child, the hatchet, watercolor", "child, the blossom, watercolor"),
        ("A Child And An Ax", "A Child And A Tulip"),
        ("a child with an aex", None),
    ],
)
def test_a_word_is_replaced_by_the_synonym_of_the_same_index(caption: str, expected: str | None) -> None:
    plan, safe = (Plan(("child", thing), (), "park", "watercolor") for thing in ("axe", "flower"))
    assert reworded_for(caption, plan, safe) == expected


def test_one_in_five_prompts_is_misspelt() -> None:
    made = training_prompts(400, misspell=lambda prompt, rng: f"~{prompt}")
    for prompts in (made.safe, [one for one, _ in made.pairs]):
        assert 0.12 < sum(prompt.startswith("~") for prompt in prompts) / len(prompts) < 0.28
    assert not any(benign.startswith("~") for _, benign in made.pairs)
    assert not any(prompt.startswith("~") for prompt in made.safe[:120])  # the plainest


def test_excluded_prompts_are_not_included_misspelt(made: TrainingPrompts) -> None:
    apart = [*(one for one, _ in made.pairs[:200]), *made.safe[:200]]
    other = training_prompts(400, apart=apart, misspell=lambda prompt, rng: f"~{prompt}")
    unsafe = {one.lstrip("~").casefold() for one, _ in other.pairs}
    plain = {each.lstrip("~").casefold() for each in other.safe} | unsafe
    assert not plain & {each.casefold() for each in apart}
    assert not unsafe & {each.lstrip("~").casefold() for each in other.safe}


def test_excluded_prompts_are_not_included(made: TrainingPrompts) -> None:
    apart = [made.pairs[0][0].upper(), made.safe[1], made.pairs[2][0]]
    other = training_prompts(400, apart=apart)
    every = {each.casefold() for each in (*other.safe, *(a for a, _ in other.pairs))}
    assert not every & {each.casefold() for each in apart}


def test_a_scene_without_harm_keeps_the_rest() -> None:
    rng = random.Random(0)
    plans = [plan for plan in (sample_plan(rng) for _ in range(300)) if plan.harms]
    assert len(plans) > 50
    for plan in plans:
        safe = without_harm(plan)
        assert not safe.harms
        changed = [old for old, new in zip(plan.objects, safe.objects, strict=True) if old != new]
        assert changed
        assert set(changed) <= set(HAZARDS)
        assert safe.relations == plan.relations
