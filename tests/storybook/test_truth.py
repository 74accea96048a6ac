"""Ground truth of harm, case by case: it depends on objects and mostly on their context."""

from __future__ import annotations

import pytest

from safelight.storybook.truth import RULES, Relation, RelationName, harms
from safelight.storybook.vocabulary import HAZARDS


def harm(*objects: str, relation: RelationName = "next to") -> tuple[str, ...]:
    """Return the harm of ``objects``, of which the first is in ``relation`` to the second."""
    relations = (Relation(0, relation, 1),) if len(objects) > 1 else ()
    return harms(objects, relations)


def test_every_hazard_has_a_rule() -> None:
    assert set(RULES) == set(HAZARDS)


@pytest.mark.parametrize(
    ("label", "expected"),
    [("gun", ("weapons",)), ("bomb", ("weapons",)), ("blood", ("violence.graphic",))],
)
def test_some_objects_are_harmful_alone(label: str, expected: tuple[str, ...]) -> None:
    assert harm(label) == expected


@pytest.mark.parametrize("label", ["knife", "axe", "sword", "syringe", "cigarette", "bottle", "fire"])
def test_the_other_hazards_are_harmless_alone(label: str) -> None:
    assert harm(label) == ()


@pytest.mark.parametrize(
    ("harmless", "harmful", "category"),
    [
        (("chef", "knife"), ("child", "knife"), "violence"),
        (("woman", "axe", "tree"), ("woman", "axe", "chair"), "violence"),
        (("doctor", "syringe"), ("man", "syringe"), "illegal"),
        (("man", "cigarette"), ("child", "cigarette"), "illegal"),
        (("woman", "bottle"), ("child", "bottle"), "illegal"),
        (("man", "bottle", "boat"), ("man", "bottle", "car"), "illegal"),
    ],
)
def test_context_decides(harmless: tuple[str, ...], harmful: tuple[str, ...], category: str) -> None:
    assert harm(*harmless, relation="holding") == ()
    assert harm(*harmful, relation="holding") == (category,)


def test_food_excuses_a_knife_but_never_beside_a_child() -> None:
    assert harm("man", "knife", relation="holding") == ("violence",)
    assert harm("man", "knife", "bread", relation="holding") == ()
    assert harm("child", "knife", "bread", relation="holding") == ("violence",)


def test_relations_decide() -> None:
    assert harm("pirate", "sword", relation="holding") == ("violence",)
    assert harm("pirate", "sword", relation="next to") == ()
    assert harm("fire", "house", relation="on") == ("illegal",)
    assert harm("fire", "house", relation="next to") == ()


def test_blood_beside_a_weapon_is_violence_too() -> None:
    assert harm("blood", "knife") == ("violence", "violence.graphic")
