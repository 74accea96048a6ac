from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from safelight.errors import ModelError, RequestError
from safelight.evaluation.system import BATCH, BareSystem, GuardedSystem
from safelight.guard.guard import Guard

STEPS = 1


def _pixels(image: Image.Image | None) -> Any:
    assert image is not None
    return np.asarray(image, int)


def test_an_image_does_not_depend_on_its_batch_mates(pipe: Any) -> None:
    system = BareSystem(pipe, num_inference_steps=STEPS)
    first = system.answer(["a cat", "a dog"], [1, 2])
    second = system.answer(["a bird", "a dog"], [3, 2])
    assert np.abs(_pixels(first[1].image) - _pixels(second[1].image)).max() <= 1
    assert np.abs(_pixels(first[0].image) - _pixels(second[0].image)).max() > 5


def test_long_lists_are_drawn_in_batches() -> None:
    sizes: list[int] = []

    def pipe(prompt: list[str], generator: list[Any], **_: Any) -> SimpleNamespace:
        sizes.append(len(prompt))
        return SimpleNamespace(images=[Image.new("L", (1, 1), g.initial_seed()) for g in generator])

    answers = BareSystem(pipe).answer(["a"] * 35, list(range(35)))
    assert sizes == [BATCH, BATCH, 3]
    assert [_pixels(answer.image).item() for answer in answers] == list(range(35))


def test_the_settings_keep_arguments_and_weights_and_no_folder(pipe: Any, model_folder: Path) -> None:
    system = BareSystem(pipe, num_inference_steps=STEPS, guidance_scale=3.0)
    assert system.settings["arguments"] == {"num_inference_steps": 1, "guidance_scale": 3.0}
    assert system.name == model_folder.name
    assert str(model_folder.parent) not in json.dumps(dict(system.settings))


def test_a_guarded_system_refuses_and_otherwise_draws_the_same(guard: Guard, pipe: Any) -> None:
    bare = BareSystem(pipe, num_inference_steps=STEPS)
    system = GuardedSystem(guard, pipe, num_inference_steps=STEPS)
    refused, drawn = system.answer(["a man with a gun", "a cat"], [1, 2])
    assert refused.image is None
    assert [verdict.action for verdict in refused.verdicts] == ["block"]
    assert [verdict.stage for verdict in drawn.verdicts] == ["prompt", "image"]
    unguarded = bare.answer(["a cat"], [2])[0]
    assert np.abs(_pixels(drawn.image) - _pixels(unguarded.image)).max() <= 1
    assert system.name.endswith("guarded by test 1")
    assert len(system.settings["policy_sha256"]) == 64


def test_prompts_and_seeds_go_together(pipe: Any) -> None:
    with pytest.raises(RequestError, match="2 prompts and 1 seeds"):
        BareSystem(pipe).answer(["a", "b"], [1])


def test_a_pipeline_gives_an_image_for_each_prompt() -> None:
    def pipe(**_: Any) -> SimpleNamespace:
        return SimpleNamespace(images=[Image.new("L", (1, 1))])

    with pytest.raises(ModelError, match="2 PIL images"):
        BareSystem(pipe).answer(["a", "b"], [1, 2])
