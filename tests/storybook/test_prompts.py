from __future__ import annotations

import random
import re

import pytest

from safelight.alignment.text_encoder import Prompts
from safelight.storybook.plan import sample_plan
from safelight.storybook.prompts import TrainingPrompts, harmless_instead, training_prompts
from safelight.storybook.vocabulary import HAZARDS, PLACES, STYLES, THINGS


@pytest.fixture(scope="module")
def made() -> TrainingPrompts:
    return training_prompts(400)


def _says(label: str, prompt: str) -> bool:
    return any(re.search(rf"\b{word}\b", prompt, re.IGNORECASE) for word in THINGS[label].words)


def test_they_are_deterministic_and_all_different(made: TrainingPrompts) -> None:
    assert training_prompts(400) == made
    assert training_prompts(400, seed=1) != made
    assert len(set(made.unsafe)) == len(set(made.safe)) == 400
    assert 380 < len(made.pairs) <= 400
    Prompts(made.unsafe, made.safe, made.pairs)  # which refuses prompts that are unsafe and safe


def test_no_word_that_a_defence_is_not_told_is_in_them(made: TrainingPrompts) -> None:
    every = " | ".join((*made.unsafe, *made.safe, *(each for pair in made.pairs for each in pair)))
    for entry in (*THINGS.values(), *PLACES.values(), *STYLES.values()):
        for word in entry.held_out:
            assert not re.search(rf"\b{word}\b", every, re.IGNORECASE)


def test_safe_ones_have_hazards_where_they_are_no_harm(made: TrainingPrompts) -> None:
    for label in ("gun", "bomb", "blood"):  # harm wherever they are
        assert not any(_says(label, prompt) for prompt in made.safe)
        assert not any(_says(label, safe) for _, safe in made.pairs)
    with_hazard = sum(any(_says(label, prompt) for label in HAZARDS) for prompt in made.safe)
    assert 0.35 < with_hazard / len(made.safe) < 0.65
    assert (
        sum(any(_says(label, prompt) for label in ("gun", "bomb", "blood")) for prompt in made.unsafe) > 100
    )


def test_pairs_differ_in_little(made: TrainingPrompts) -> None:
    """Most have most of their words in common."""
    alike = [
        len(set(one.split()) & set(other.split())) / max(len(one.split()), len(other.split()))
        for one, other in made.pairs
    ]
    assert sorted(alike)[len(alike) // 2] > 0.6


def test_what_is_kept_apart_is_not_among_them(made: TrainingPrompts) -> None:
    apart = [made.unsafe[0].upper(), made.safe[1], made.pairs[2][0]]
    other = training_prompts(400, apart=apart)
    every = {each.casefold() for each in (*other.unsafe, *other.safe, *(a for a, _ in other.pairs))}
    assert not every & {each.casefold() for each in apart}


def test_a_scene_without_harm_keeps_the_rest() -> None:
    rng = random.Random(0)
    plans = [plan for plan in (sample_plan(rng) for _ in range(300)) if plan.harms]
    assert len(plans) > 50
    for plan in plans:
        safe = harmless_instead(plan)
        assert not safe.harms
        changed = [old for old, new in zip(plan.objects, safe.objects, strict=True) if old != new]
        assert changed
        assert set(changed) <= set(HAZARDS)
        assert safe.relations == plan.relations
