from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from safelight.errors import ImageError, PromptError, RequestError
from safelight.inputs import Inputs


def test_texts_and_pictures_are_found_wherever_they_come_in() -> None:
    picture = Image.new("RGB", (4, 4))
    inputs = Inputs.of(
        {
            "prompt_2": "a cat",
            "negative_prompt": ["a dog", ""],
            "negative_prompt_3": None,
            "image": picture,
            "ip_adapter_image": [[picture], [picture]],
            "odd_name": picture,
            "image_guidance_scale": 1.5,
            "num_inference_steps": 3,
        }
    )
    assert inputs.texts == {"prompt_2": ("a cat",), "negative_prompt": ("a dog",)}
    assert {name: len(images) for name, images in inputs.images.items()} == {
        "image": 1,
        "ip_adapter_image": 2,
        "odd_name": 1,
    }


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("prompt_embeds", np.zeros(3), RequestError),
        ("negative_pooled_prompt_embeds", np.zeros(3), RequestError),
        ("ip_adapter_image_embeds", [np.zeros(3)], RequestError),
        ("image", np.zeros((4, 4, 3)), ImageError),
        ("image", ["a file"], ImageError),
        ("mask_image", [np.zeros((4, 4))], ImageError),
        ("prompt_2", "a\x00cat", PromptError),
        ("prompt_2", 3, PromptError),
        ("output_type", "latent", RequestError),
        ("return_dict", False, RequestError),
        ("num_images_per_prompt", 2, RequestError),
    ],
)
def test_what_cannot_be_screened_is_refused(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"\.$"):
        Inputs.of({name: value})


def test_arguments_follow_the_prompts_that_are_left() -> None:
    arguments = {"negative_prompt": ["a", "b", "c"], "prompt_2": "d", "sigmas": [1, 2, 3]}
    assert Inputs.of(arguments).only([0, 2], 3, arguments) == {
        "negative_prompt": ["a", "c"],
        "prompt_2": ["d", "d"],
        "sigmas": [1, 2, 3],
    }
