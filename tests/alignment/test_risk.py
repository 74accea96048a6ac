"""Images are led away only where their prompts ask for what is minded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import safelight
from pipelines import FAMILIES, draw, family
from safelight.alignment.guidance import PolicyRisk, PromptProjection, PromptSimilarityRisk, SafeGuidance
from safelight.errors import RequestError
from safelight.policy import Filters, Policy

NEAR = {
    ("a gun", 0): 0.9,
    ("a knife", 1): 0.95,
    ("a child", 1): 0.8,
    ("a bread", 2): 0.9,
    ("a knife", 2): 0.9,
}


def near(texts: Sequence[str]) -> NDArray[np.float32]:
    """Three prompts: a gun; a child with a knife; bread and a knife."""
    return np.array([[NEAR.get((text, prompt), 0.1) for text in texts] for prompt in range(3)], np.float32)


def test_of_concepts_those_count_that_are_asked_for() -> None:
    everything = {"a gun": 1.0, "a knife": 2.0, "blood": 1.0}
    assert PromptSimilarityRisk()([everything] * 3, near) == [
        {"a gun": 1.0},
        {"a knife": 2.0},
        {"a knife": 2.0},
    ]
    assert PromptSimilarityRisk(0.92)([everything] * 3, near)[0] == {}
    assert PromptSimilarityRisk()([{"blood, a gun": 1.5}] * 3, near) == [{"a gun": 1.5}, {}, {}]
    assert PromptSimilarityRisk()([everything, {}, {}], near)[1:] == [{}, {}]


def test_company_is_for_the_policy_to_judge() -> None:
    risk = PolicyRisk(Policy.load("storybook"))
    assert risk([{"blood": 1.0}] * 3, near) == [{"a gun": 1.0}, {"a knife": 1.0}, {}]
    assert risk([{}, {"blood": 1.0}, {}], near) == [{}, {"a knife": 1.0}, {}], "a prompt that is left alone"


@pytest.fixture(scope="module")
def storybook() -> Any:
    pipe = safelight.load_pipeline("storybook", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_words_are_heard_whatever_they_are(storybook: Any) -> None:
    """A firearm and a rapier are words that no word list of the storybook's has."""
    prompts = [
        "a lad with a firearm",
        "a fellow who holds a rapier",
        "a baguette, a kitchen knife",
        "a hound",
    ]
    with SafeGuidance("max", when=PolicyRisk(Policy.load("storybook"))).attach(storybook) as attached:
        draw(storybook, prompts, num_inference_steps=3)
    assert [trace.acted for trace in attached.traces] == [True, True, False, False]


def test_where_nothing_is_asked_for_nothing_is_done_and_nothing_paid(storybook: Any) -> None:
    rows: list[int] = []
    hook = storybook.unet.register_forward_hook(lambda *call: rows.append(len(call[2][0])))
    plain = draw(storybook, ["a hound", "an apple"], num_inference_steps=3)
    with SafeGuidance("max", "a gun, blood", when=PromptSimilarityRisk()).attach(storybook) as attached:
        led = draw(storybook, ["a hound", "an apple"], num_inference_steps=3)
    hook.remove()
    assert (led == plain).all()
    assert rows == [4] * 6
    assert attached.traces == ()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.filterwarnings("ignore")
def test_every_family_hears_its_prompts(name: str, pipe: Any) -> None:
    made, options, known = family(name, pipe)
    plain = draw(made, "a cat", **options)
    with PromptProjection(["a cat", "blood"], when=PromptSimilarityRisk(0.999), **known).attach(made):
        assert np.abs(draw(made, "a cat", **options) - plain).max() > 1e-3
    with PromptProjection(["zebra crossings", "blood"], when=PromptSimilarityRisk(0.999), **known).attach(
        made
    ):
        assert (draw(made, "a cat", **options) == plain).all()


def test_what_makes_no_sense_is_refused() -> None:
    for threshold in (0.0, 1.0, float("nan")):
        with pytest.raises(RequestError, match="the threshold is"):
            PromptSimilarityRisk(threshold)
    empty = Policy(name="empty", version="1", filters=Filters())
    with pytest.raises(RequestError, match="has no label"):
        PolicyRisk(empty)
