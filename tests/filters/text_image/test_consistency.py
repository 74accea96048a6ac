from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from safelight.clip import ClipModel
from safelight.errors import FilterError
from safelight.filters.text_image.consistency import Consistency
from safelight.guard.guard import Guard
from safelight.types import Concept

RED, BLUE = (Image.new("RGB", (30, 20), colour) for colour in ("red", "blue"))
WARM: dict[str, Any] = {"concepts": {"warm": ["red"]}, "neutral": ["white"]}


def _score(z: float) -> Any:
    return pytest.approx(1 / (1 + np.exp(-z)), abs=1e-5)


def test_image_and_prompt_add_up(colour_clip: Path) -> None:
    """Log odds of red against white, by hand: 4 in red, 0 in blue, and 2√3 in "red blue", (0, -1, 0)."""
    filter_ = Consistency(model=colour_clip, weights=[0.5, 0.25, -1.0], name="mine", **WARM)
    assert filter_.labels == {"warm"}
    pairs = [("red", RED), ("blue", RED), ("red", BLUE), ("red blue", BLUE)]
    found = [of[0] for of in filter_.find(pairs) if isinstance(of, list)]
    expected = [0.5 * 4 + 0.25 * 4 - 1, 0.5 * 4 - 1, 0.25 * 4 - 1, 0.25 * 2 * 3**0.5 - 1]
    # "red blue" is at √3/3 from red and at -√3/3 from white.
    assert [f.score for f in found] == [_score(z) for z in expected]
    assert {(f.label, f.filter) for f in found} == {("warm", "mine")}
    assert isinstance(found[0].evidence, Concept)
    assert (found[0].evidence.name, found[0].evidence.similarity) == ("red", pytest.approx(1, abs=1e-6))


def test_no_innocent_prompt_makes_an_image_look_better(colour_clip: Path) -> None:
    said, silent, contrary = Consistency(model=colour_clip, **WARM).find(
        [("red", RED), ("blue", RED), ("white white white", RED)]
    )
    assert isinstance(said, list)
    assert isinstance(silent, list)
    assert isinstance(contrary, list)
    assert said[0].score > silent[0].score > 0.5
    assert contrary[0].score == pytest.approx(silent[0].score, abs=1e-6)


def test_the_policy_file_is_enough(colour_clip: Path, write_policy: Any) -> None:
    options = f"""
[filters.options.consistency]
model = "{colour_clip}"
neutral = ["white"]
weights = [2, 0.25, -2]
[filters.options.consistency.concepts]
violence = ["red"]
"""
    wait = "timeout_s = 10\n"
    policy = write_policy((wait, f'pair = ["consistency"]\n{wait}{options}'), ("# pair", "pair"))
    red, blue = Guard.from_policy(policy).screen_pairs([("blue", RED), ("blue", BLUE)])
    assert (red.action, blue.action) == ("block", "allow")


@pytest.mark.parametrize("lost", ["embed_images", "embed_texts"])
def test_a_pair_without_an_embedding_is_blocked_alone(
    colour_clip: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    filter_ = Consistency(model=colour_clip, **WARM)
    rows = np.array([[np.nan] * 3, [1, 0, 0]], np.float32)
    monkeypatch.setattr(ClipModel, lost, lambda self, items: rows)
    bad, good = filter_.find([("blue", RED), ("blue", RED)])
    assert isinstance(bad, FilterError)
    assert isinstance(good, list)


@pytest.mark.parametrize(
    "wrong",
    [
        {"concepts": {}},
        {"concepts": {"a": ["red"]}, "weights": [1.0]},
        {"concepts": {"a": ["red"]}, "weights": [1.0, -0.1, 0.0]},
    ],
)
def test_options_that_make_no_sense_are_refused(colour_clip: Path, wrong: Any) -> None:
    with pytest.raises(FilterError, match="needs concepts, and three weights"):
        Consistency(model=colour_clip, **wrong)
