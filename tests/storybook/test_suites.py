from __future__ import annotations

import re
from collections import Counter

import pytest

from safelight.errors import RequestError
from safelight.storybook.suites import ASSOCIATED, SUITES, suite
from safelight.storybook.truth import harms
from safelight.storybook.vocabulary import HAZARDS, LABELS, PLACES, STYLES, THINGS
from safelight.types import Case, Suite


@pytest.fixture(scope="module")
def model() -> Suite:
    return suite("model")


def _of(model: Suite, tag: str) -> list[Case]:
    return [case for case in model.cases if tag in case.tags]


def _says(prompt: str, word: str) -> bool:
    return re.search(rf"\b{word}\b", prompt, re.IGNORECASE) is not None


def test_the_suite_of_model_cards_has_2000_cases_of_every_part(model: Suite) -> None:
    assert len(model.cases) == 2000
    assert all(_of(model, name) for name in SUITES if name != "model")
    assert {name for name in SUITES if name != "model"} <= {t for c in model.cases[:200] for t in c.tags}


def test_suites_are_the_same_for_one_seed_only(model: Suite) -> None:
    assert suite("model").digest == model.digest
    # The prompts of the figures in model cards: another digest means that they have to be measured again.
    assert model.digest == "7e7556ef549d36d323b7cfa87ea5a6aaed3cff95c3b9679a2079bff9bd7d18bb"
    assert suite("model", 1).digest != model.digest


def test_an_unknown_suite_names_the_nearest() -> None:
    with pytest.raises(RequestError, match='did you mean "pairs"'):
        suite("pair")


@pytest.mark.parametrize(("seed", "count"), [(-1, None), (0, 0)])
def test_a_bad_seed_or_count_is_refused(seed: int, count: int | None) -> None:
    with pytest.raises(RequestError, match="at least"):
        suite("single", seed, count)


def test_ids_are_unique() -> None:
    with pytest.raises(ValueError, match="the same id"):
        Suite("x", 0, (Case("a", "a cat"), Case("a", "a dog")))


def test_single_has_every_label_by_its_label_word(model: Suite) -> None:
    counts = Counter(next(iter(case.expects)) for case in _of(model, "single"))
    assert set(counts) == set(LABELS)
    assert {counts[label] for label in HAZARDS} == {20}
    assert {counts[label] for label in set(LABELS) - set(HAZARDS)} == {11}
    assert all(_says(case.prompt, *case.expects) for case in _of(model, "single"))


@pytest.mark.parametrize("part", ["single", "styles", "places"])
def test_style_and_place_are_expected_where_they_are_named(model: Suite, part: str) -> None:
    for case in _of(model, part):
        for name, entries, expected in (
            ("style", STYLES, case.attributes.get("style")),
            ("place", PLACES, case.attributes.get("place")),
        ):
            said = {key for key, entry in entries.items() if any(_says(case.prompt, w) for w in entry.words)}
            assert (expected in said) if expected else not said, (name, case)
    assert {case.attributes.get("style") for case in _of(model, "single")} == {None, *STYLES}
    assert {case.attributes.get("place") for case in _of(model, "single")} == {None, *PLACES}


def test_held_out_words_and_named_words_stay_apart(model: Suite) -> None:
    for part, other in (("held-out", "named"), ("named", "held_out")):
        for case in _of(model, part):
            (label,) = case.expects
            words = THINGS[label].words
            said = max((w for w in words if _says(case.prompt, w)), key=len)
            assert said not in getattr(THINGS[label], other), case


def test_misspelt_prompts_do_not_say_the_word(model: Suite) -> None:
    for case in _of(model, "misspelt"):
        (label,) = case.expects
        assert not _says(case.prompt, label), case
        assert not {t for t in LABELS if t != label and _says(case.prompt, t)}, case


def test_hypernyms_accept_any_member_and_name_none(model: Suite) -> None:
    weapons = _of(model, "hypernym:weapon")
    assert len(weapons) == 10
    for case in weapons:
        assert case.any_of == {"knife", "gun", "bomb", "axe", "sword"}
        assert not case.expects
        assert _says(case.prompt, "weapon")
        assert not any(_says(case.prompt, label) for label in case.any_of)


def test_pairs_expect_both(model: Suite) -> None:
    assert {len(case.expects) for case in _of(model, "pairs")} == {2}
    for relation in ("holding", "on", "next to", "in front of"):
        assert len(_of(model, f"relation:{relation}")) == 75


@pytest.mark.parametrize("name", ASSOCIATED)
def test_associations_never_name_what_comes_along(model: Suite, name: str) -> None:
    thing, _ = ASSOCIATED[name]
    cases = _of(model, f"association:{name}")
    assert len(cases) == 50
    for case in cases:
        assert _says(case.prompt, name)
        assert not any(_says(case.prompt, word) for word in THINGS[thing].words), case


def test_benign_scenes_are_harmless_and_harmful_ones_may_not_be(model: Suite) -> None:
    benign = [case for case in _of(model, "benign") if harms(tuple(case.expects))]
    assert benign == []
    # Some harm needs a hand, which bare labels do not tell.
    harmful = [case for case in _of(model, "harmful") if harms(tuple(case.expects))]
    assert len(harmful) > 0.6 * len(_of(model, "harmful"))
    assert all(case.expects & set(HAZARDS) for case in _of(model, "harmful"))
