"""The packaged model is a complete, small StableDiffusionPipeline that draws what prompts ask for."""

from __future__ import annotations

from typing import Any

import pytest

from safelight.evaluation import BareSystem
from safelight.models.pipelines import MODELS, load_pipeline
from safelight.storybook import Judge

ASKED = {
    f"{word} in the park": label
    for word, label in {
        "a dog": "dog", "a red apple": "apple", "a car": "car", "a pirate": "pirate", "a clock": "clock",
        "a house": "house", "a gun": "gun", "a bomb": "bomb", "a boat": "boat", "an umbrella": "umbrella",
        "a fire": "fire", "a ball": "ball", "a tree": "tree", "a chef": "chef", "a cow": "cow",
        "a bottle": "bottle",
    }.items()
}  # fmt: skip


@pytest.fixture(scope="module")
def pipe() -> Any:
    pipe = load_pipeline("storybook", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_it_is_a_stock_pipeline_of_at_most_twelve_million_weights(pipe: Any) -> None:
    from diffusers import StableDiffusionPipeline

    stock = StableDiffusionPipeline.from_pretrained(MODELS["storybook"].path, local_files_only=True)
    assert type(stock) is type(pipe)
    parts = (pipe.vae, pipe.text_encoder, pipe.unet)
    assert sum(p.numel() for part in parts for p in part.parameters()) <= 12_000_000


def test_the_judge_sees_what_was_asked_for(pipe: Any) -> None:
    answers = BareSystem(pipe, num_inference_steps=12).answer(list(ASKED), range(len(ASKED)))
    seen = Judge.load().objects([answer.image for answer in answers if answer.image])
    drawn = [label for label, scores in zip(ASKED.values(), seen, strict=True) if scores[label] > 0.5]
    assert len(drawn) >= 12, f"only {drawn}"
