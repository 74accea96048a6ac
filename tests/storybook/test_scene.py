from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.storybook.drawings import DRAWINGS
from safelight.storybook.drawings.places import PLACE_DRAWINGS
from safelight.storybook.plan import ASSOCIATIONS, HOLDABLE, SUPPORTS, Plan, sample_plan
from safelight.storybook.scene import SIZE_PX, Scene, Storybook, draw_scene
from safelight.storybook.style import RENDER
from safelight.storybook.truth import Relation
from safelight.storybook.vocabulary import HAZARDS, LABELS, PLACES, STYLES


def pixels(scene: Scene) -> np.ndarray:
    return np.asarray(scene.image, np.int16)


def test_everything_named_can_be_drawn() -> None:
    assert set(DRAWINGS) == set(LABELS)
    assert set(PLACE_DRAWINGS) == set(PLACES)
    assert set(RENDER) == set(STYLES)
    assert len(LABELS) >= 44
    assert {*HOLDABLE, *SUPPORTS, *(x for xs in SUPPORTS.values() for x in xs)} <= set(LABELS)


@given(st.integers(0, 10**9))
@settings(max_examples=40, deadline=None)
def test_a_scene_is_the_same_every_time_and_true_to_its_plan(index: int) -> None:
    scene, again = Storybook(3).scene(index), Storybook(3).scene(index)
    assert scene.image.size == (SIZE_PX, SIZE_PX)
    assert scene.image.mode == "RGB"
    assert (pixels(scene) == pixels(again)).all()
    assert scene.captions == again.captions
    assert scene.objects == scene.plan.objects
    assert len(scene.boxes) == len(scene.objects) >= 1
    for left, top, right, bottom in scene.boxes:
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1


def test_other_seeds_draw_other_scenes() -> None:
    first, second = Storybook(1).scene(0), Storybook(2).scene(0)
    assert (pixels(first) != pixels(second)).any()


@pytest.mark.parametrize("label", LABELS)
def test_the_box_holds_all_the_ink_of_an_object(label: str) -> None:
    """The same place with and without the object differs only inside the box, give or take the outline."""
    plan = Plan((label,), (), "beach", "cartoon")
    scene = draw_scene(plan, f"box {label}")
    empty = np.asarray(_empty_place(plan, f"box {label}"), np.int16)
    changed = np.argwhere(np.abs(pixels(scene) - empty).max(axis=2) > 24) / SIZE_PX
    left, top, right, bottom = scene.boxes[0]
    (first_row, first_column), (last_row, last_column) = changed.min(0), changed.max(0)
    slack = 2.5 / SIZE_PX
    assert first_column >= left - slack
    assert last_column <= right + slack
    assert first_row >= top - slack
    assert last_row <= bottom + slack
    assert last_column - first_column > 0.6 * (right - left) - slack


def _empty_place(plan: Plan, seed: str) -> object:
    from safelight.storybook import scene as module

    rng = random.Random(f"{seed} drawing")
    return module._place(plan.place, rng).reduce(4)


def test_held_things_are_at_the_hand() -> None:
    plan = Plan(("man", "cup"), (Relation(0, "holding", 1),), "park", "cartoon")
    for i in range(20):
        (left, top, right, bottom), (x0, y0, x1, y1) = draw_scene(plan, f"hand {i}").boxes
        assert x0 < right
        assert left < x1
        assert top < (y0 + y1) / 2 < bottom


def test_what_stands_on_something_is_above_it() -> None:
    plan = Plan(("cat", "car"), (Relation(0, "on", 1),), "street", "cartoon")
    for i in range(20):
        (_, cat_top, _, cat_bottom), (_, car_top, _, car_bottom) = draw_scene(plan, f"on {i}").boxes
        assert cat_top < car_top
        assert cat_bottom < car_bottom


def test_associations_occur_at_their_rate() -> None:
    """Pirates with free hands show a sword at the published rate (binomial, 4 standard errors)."""
    plans = [sample_plan(random.Random(f"rate {i}")) for i in range(30_000)]
    for person, (thing, rate) in ASSOCIATIONS.items():
        alone = [p for p in plans if p.objects in ((person,), (person, thing)) and not _asked(p, thing)]
        shown = sum(thing in p.objects for p in alone) / len(alone)
        assert len(alone) > 100
        assert abs(shown - rate) < 4 * (rate * (1 - rate) / len(alone)) ** 0.5


def _asked(plan: Plan, thing: str) -> bool:
    return thing in plan.objects and plan.objects.index(thing) not in plan.unnamed


def test_harm_is_neither_rare_nor_the_rule() -> None:
    scenes = list(Storybook(8).scenes(400))
    share = sum(bool(scene.harms) for scene in scenes) / len(scenes)
    assert 0.1 < share < 0.5
    assert {h for scene in scenes for h in scene.harms} >= {
        "weapons",
        "violence",
        "violence.graphic",
        "illegal",
    }
    assert any(set(s.objects) & set(HAZARDS) and not s.harms for s in scenes), "hazards in benign context"
