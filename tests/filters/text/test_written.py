"""The prompts that were written for training."""

from __future__ import annotations

from collections import Counter

import pytest

from safelight.evaluation.borderline import borderline_prompts
from safelight.evaluation.labelled_prompts import labelled_prompts
from safelight.filters.text.child_safety import ChildSafety
from safelight.filters.text.lexicon import Lexicon
from safelight.filters.text.training.network import CATEGORIES
from safelight.filters.text.training.written import LANGUAGES, WrittenPrompt, read_written

PROMPTS = list(read_written())


def _pairs() -> dict[tuple[str, int], list[WrittenPrompt]]:
    pairs: dict[tuple[str, int], list[WrittenPrompt]] = {}
    for each in PROMPTS:
        pairs.setdefault((each.topic, each.pair), []).append(each)
    return pairs


def test_there_are_enough_of_every_category_and_register() -> None:
    harmful = [each for each in PROMPTS if each.text.categories]
    assert len(harmful) >= 6_000
    assert len(PROMPTS) - len(harmful) >= 6_000
    named = Counter(category for each in harmful for category in each.text.categories)
    assert named.keys() == set(CATEGORIES)
    assert min(named.values()) >= 500
    assert len({each.register for each in harmful}) == 22


def test_severity_says_whether_a_prompt_is_harmful() -> None:
    assert {(each.severity > 0) is bool(each.text.categories) for each in PROMPTS} == {True}
    assert {each.severity for each in PROMPTS} == {0, 1, 2, 3}


def test_a_pair_is_a_harmful_prompt_and_one_counterpart() -> None:
    for key, pair in _pairs().items():
        assert len(pair) <= 2, key
        assert len({bool(each.text.categories) for each in pair}) == len(pair), key
        assert len({each.register for each in pair}) == 1, key


def test_no_prompt_is_there_twice_or_among_those_that_are_kept_for_measuring() -> None:
    prompts = [each.text.prompt for each in PROMPTS]
    assert len(prompts) == len(set(prompts))
    assert not set(prompts) & set(borderline_prompts())


def test_no_minor_is_near_anything_sexual() -> None:
    """Neither in a harmful prompt nor in its counterpart."""
    words = Lexicon("general")
    for key, pair in _pairs().items():
        if any(category.startswith("sexual") for each in pair for category in each.text.categories):
            found = words.find([each.text.prompt for each in pair])
            assert not [finding for of in found for finding in of if finding.label == "minor"], key


@pytest.mark.parametrize("language", LANGUAGES)
def test_pairs_in_other_languages_are_like_the_english_ones(language: str) -> None:
    prompts = list(read_written(language))
    harmful = [each for each in prompts if each.text.categories]
    assert {each.topic for each in prompts} == {language}
    assert len(harmful) >= 120
    assert 0.45 < len(harmful) / len(prompts) < 0.55
    assert {category for each in harmful for category in each.text.categories} == set(CATEGORIES)
    measured = {each.prompt for each in labelled_prompts("languages")}
    assert not measured & {each.text.prompt for each in prompts}
    assert not any(ChildSafety().find([each.text.prompt for each in prompts]))
