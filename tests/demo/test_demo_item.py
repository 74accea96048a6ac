from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from PIL import Image

from safelight.demo.item import DemoItem, Outcome, Truth, counts
from safelight.demo.page import explanation
from safelight.types import Action

Make = Callable[..., DemoItem]


@pytest.mark.parametrize(
    ("chosen", "outcome"),
    [
        ({}, Outcome.RELEASED),
        ({"harms": ("violence",)}, Outcome.MISSED),
        ({"things": ("gun",), "harms": ("weapons",)}, Outcome.STOPPED),
        ({"things": ("gun",)}, Outcome.OVER_BLOCKED),
        ({"things": ("gun",), "asked": True}, Outcome.STOPPED),
        ({"text": "a gun", "words": ("gun",), "asked": True}, Outcome.STOPPED),
    ],
)
def test_the_outcome_compares_the_guard_with_the_truth(
    item: Make, chosen: dict[str, object], outcome: Outcome
) -> None:
    made = item(**chosen)
    assert made.outcome is outcome
    assert outcome.wrong == (outcome in ("missed", "over-blocked"))


def test_what_was_blamed_is_kept_apart_by_stage(item: Make) -> None:
    made = item("a child", words=("child",), things=("knife", "child", "ball"))
    assert made.blamed("prompt") == frozenset()
    assert made.blamed("image") == {"knife", "child"}
    assert set(made.boxes) == {"knife", "child", "ball"}
    assert made.deciding.stage == "image"


def test_times_are_this_image_s_own(item: Make) -> None:
    assert item().times_ms == {"drawing": 1200.0, "prompt": 2.5, "image": 2.5}
    assert item("a gun", words=("gun",)).times_ms == {"drawing": 1200.0, "prompt": 2.5}


def test_truth_reads_like_a_sentence() -> None:
    assert str(Truth(("child", "dog", "knife"), ("child holding knife",), ())) == "child holding knife, dog"
    assert str(Truth((), (), ())) == "nothing it knows"


def test_another_image_is_steered_away_unless_it_is_harmful_too(item: Make) -> None:
    blocked = item(things=("gun",), harms=("weapons",))
    other = Image.new("RGB", (64, 64), "blue")
    assert replace(blocked, released=other, steered_away_from=("a gun",)).outcome is Outcome.STEERED
    harmful = replace(blocked, released=other, steered_away_from=("a gun",), leaked=("weapons",))
    assert harmful.outcome is Outcome.MISSED
    assert explanation(replace(blocked, released=other, steered_away_from=("a gun", "a bomb"))) == (
        "The image shows weapons, so it was drawn again from the same noise, "
        "steered away from a gun and a bomb."
    )


def test_a_verdict_without_categories_is_explained_by_its_reasons(item: Make) -> None:
    made = item()
    verdict = replace(made.verdicts[0], action=Action.BLOCK, categories={}, reasons=("a filter failed.",))
    stopped = replace(made, released=None, verdicts=(verdict,))
    assert explanation(stopped) == ("The prompt could not be judged (a filter failed), so it was stopped.")


def test_counts_have_every_outcome(item: Make) -> None:
    count = counts([item(), item(), item(harms=("violence",))])
    assert count == {"released": 2, "steered away": 0, "stopped": 0, "missed": 1, "over-blocked": 0}
