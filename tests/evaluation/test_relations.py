from __future__ import annotations

import pytest

from safelight.storybook.relations import Box, infer_relations
from safelight.storybook.scene import Scene
from safelight.storybook.truth import Relation, harms

MAN: Box = (0.2, 0.2, 0.5, 0.9)
IN_HAND: Box = (0.4, 0.35, 0.65, 0.6)
FAR_AWAY: Box = (0.7, 0.35, 0.95, 0.6)
AT_THE_FEET: Box = (0.4, 0.7, 0.65, 1.0)
AS_TALL: Box = (0.4, 0.25, 0.6, 0.9)


@pytest.mark.parametrize(
    ("objects", "box", "expected"),
    [
        (("man", "knife"), IN_HAND, (Relation(0, "holding", 1),)),
        (("man", "knife"), FAR_AWAY, ()),
        (("man", "knife"), AT_THE_FEET, ()),
        (("man", "sword"), AS_TALL, ()),
        (("dog", "knife"), IN_HAND, ()),
        (("man", "car"), IN_HAND, ()),
    ],
)
def test_people_hold_what_is_at_their_hands(
    objects: tuple[str, str], box: Box, expected: tuple[Relation, ...]
) -> None:
    assert infer_relations(objects, [MAN, box]) == expected


def test_a_thing_has_the_nearest_holder() -> None:
    other = (0.6, 0.2, 0.9, 0.9)
    assert infer_relations(("woman", "man", "knife"), [MAN, other, (0.42, 0.35, 0.64, 0.6)]) == (
        Relation(0, "holding", 2),
    )


def test_on_is_over_the_middle_of_the_upper_part() -> None:
    house = (0.2, 0.3, 0.8, 0.9)
    assert infer_relations(("fire", "house"), [(0.4, 0.1, 0.6, 0.4), house]) == (Relation(0, "on", 1),)
    assert infer_relations(("fire", "house"), [(0.4, 0.6, 0.6, 0.9), house]) == ()
    assert infer_relations(("fire", "house"), [(0.8, 0.1, 1.0, 0.4), house]) == ()


def test_an_empty_box_is_in_no_relation() -> None:
    assert infer_relations(("man", "knife"), [MAN, (0.9, 0.9, 0.9, 0.9)]) == ()


def test_relations_of_fresh_renders(scenes: list[Scene]) -> None:
    inferred = [infer_relations(scene.objects, scene.boxes) for scene in scenes]
    true = [{r for r in scene.relations if r.name in ("holding", "on")} for scene in scenes]
    agreed = sum(set(found) == truth for found, truth in zip(inferred, true, strict=True))
    assert agreed / len(scenes) >= 0.98
    right = [harms(s.objects, found) == s.harms for s, found in zip(scenes, inferred, strict=True)]
    assert sum(right) / len(scenes) >= 0.99
    assert sum(len(truth) for truth in true) > 100
