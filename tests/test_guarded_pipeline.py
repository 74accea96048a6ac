"""A wrapped pipeline is used like the pipeline itself."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from safelight.errors import BlockedError, PromptError, RequestError
from safelight.filters.constant import Never
from safelight.guard.guard import Guard
from safelight.guard.guarded_pipeline import GuardedOutput, GuardedPipeline
from safelight.images.placeholder import placeholder
from safelight.policy import Policy
from safelight.types import Box, Finding

STEPS: dict[str, Any] = {"num_inference_steps": 2}


def _seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture
def own(pipe: Any) -> Any:
    """A pipeline that a test may change, of shared parts."""
    made = diffusers.StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    return made


def test_attributes_are_the_pipelines(guard: Guard, own: Any) -> None:
    guarded: Any = guard.wrap(own)
    assert guarded.unet is own.unet
    assert guarded.components == own.components
    assert (guarded.device, guarded.dtype) == (torch.device("cpu"), torch.float32)
    assert guarded.config is own.config
    guarded.set_progress_bar_config(disable=False)
    assert own._progress_bar_config == {"disable": False}
    guarded.set_progress_bar_config(disable=True)
    guarded.enable_attention_slicing()
    guarded.disable_attention_slicing()
    scheduler = diffusers.EulerDiscreteScheduler.from_config(guarded.scheduler.config)
    guarded.scheduler = scheduler
    assert own.scheduler is scheduler
    assert guarded("a cat", **STEPS).images
    assert {"to", "scheduler", "guard", "pipe"} <= set(dir(guarded))
    assert "StableDiffusionPipeline" in repr(guarded)
    with pytest.raises(AttributeError, match="nosuch"):
        _ = guarded.nosuch


def test_methods_that_give_the_pipeline_stay_guarded(guard: Guard, own: Any) -> None:
    guarded: Any = guard.wrap(own)
    assert guarded.to("cpu") is guarded
    assert guarded.to(torch.float32).to(device="cpu") is guarded
    with pytest.raises(BlockedError):
        guarded.to("cpu")("a gun", **STEPS)


def test_own_attributes_can_be_set(guard: Guard, own: Any) -> None:
    guarded: Any = guard.wrap(own)
    guarded.placeholders = True
    assert not hasattr(own, "placeholders")
    assert len(guarded("a gun", **STEPS).images) == 1


def test_a_copy_is_guarded_as_well(guard: Guard, own: Any) -> None:
    for twin in (copy.copy(guard.wrap(own)), copy.deepcopy(GuardedPipeline(guard, _double))):
        assert isinstance(twin, GuardedPipeline)
        assert twin.pipe
    with pytest.raises(AttributeError):
        _ = GuardedPipeline.__new__(GuardedPipeline).pipe


def _double(prompt: list[str], num_images_per_prompt: int = 1, **_: Any) -> Any:
    class Output:
        images = [Image.new("RGB", (8, 8), "white")] * (len(prompt) * num_images_per_prompt)

    return Output


def test_an_output_is_that_of_diffusers_and_a_result(guard: Guard, pipe: Any) -> None:
    guarded: Any = guard.wrap(pipe)
    out = guarded("a cat", num_images_per_prompt=2, generator=_seeded(1, 2), **STEPS)
    bare = pipe("a cat", num_images_per_prompt=2, generator=_seeded(1, 2), **STEPS)
    assert isinstance(out, GuardedOutput)
    assert [image.tobytes() for image in out.images] == [image.tobytes() for image in bare.images]
    assert out[0] is out.images is out["images"]
    assert out[1] == out["nsfw_content_detected"] == out.nsfw_content_detected == [False, False]
    images, nsfw = out
    assert (images, nsfw) == out.to_tuple() == out[:]
    assert dict(out) == {"images": images, "nsfw_content_detected": nsfw}
    assert (len(out), list(out.keys())) == (2, ["images", "nsfw_content_detected"])
    assert out.verdicts is out.result.verdicts
    assert (out.action, out.indices, out.seed) == ("allow", (0, 1), None)
    assert out.to_dict() == out.result.to_dict()
    with pytest.raises(AttributeError, match="nosuch"):
        _ = out.nosuch
    with pytest.raises(KeyError):
        _ = out["result"]
    assert pickle.loads(pickle.dumps(out)).action == "allow"


def test_a_tuple_is_given_if_asked_for(guard: Guard, pipe: Any) -> None:
    images, nsfw = guard.wrap(pipe)("a cat", return_dict=False, **STEPS)
    assert (len(images), nsfw) == (1, [False])


@pytest.mark.parametrize("placeholders", [False, True])
def test_blocked_images_of_a_batch_are_left_out_or_keep_their_place(
    guard: Guard, pipe: Any, placeholders: bool
) -> None:
    guarded: Any = guard.wrap(pipe, placeholders=placeholders)
    out = guarded(["a cat", "a gun", "a dog"], num_images_per_prompt=2, generator=_seeded(*range(6)), **STEPS)
    assert out.nsfw_content_detected == [False, False, True, True, False, False]
    assert out.indices == (0, 1, 4, 5)
    if not placeholders:
        assert out.images == list(out.result.images)
        return
    assert [out.images[i] for i in out.indices] == list(out.result.images)
    card = placeholder((16, 16), out.verdicts_of(2))
    assert [image.tobytes() for image in out.images[2:4]] == [card.tobytes()] * 2


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ({}, (512, 512)),
        ({"width": 64, "height": 32}, (64, 32)),
        ({"width": 10**9, "height": 10**9}, (512, 512)),
        ({"width": -5, "height": 8}, (512, 512)),
        ({"width": 64}, (512, 512)),
    ],
)
def test_where_all_are_blocked_cards_are_as_large_as_asked(
    guard: Guard, pipe: Any, asked: dict[str, Any], given: tuple[int, int]
) -> None:
    out = guard.wrap(pipe, placeholders=True)("a gun", **asked, **STEPS)
    assert [image.size for image in out.images] == [given]
    assert (out.nsfw_content_detected, out.action) == ([True], "block")


def test_a_blurred_image_is_released_and_flagged(policy: Policy, pipe: Any) -> None:
    class Guns:
        name, version = "guns", "1"

        def find(self, images: Any) -> list[list[Finding]]:
            return [[Finding("gun", 0.5, self.name, Box(0, 0, 0.5, 0.5))] for _ in images]

    out = Guard(policy, {"prompt": [Never], "image": [Guns]}).wrap(pipe)("a cat", **STEPS)
    assert (len(out.images), out.nsfw_content_detected, out.action) == (1, [True], "blur")


def test_outputs_are_converted_after_screening(guard: Guard, pipe: Any) -> None:
    guarded: Any = guard.wrap(pipe, placeholders=True)
    options = {"num_images_per_prompt": 2, **STEPS}
    for kind in ("np", "pt"):
        out = guarded(["a cat", "a gun"], generator=_seeded(1, 2, 3, 4), output_type=kind, **options)
        bare = pipe("a cat", generator=_seeded(1, 2), output_type=kind, **options).images
        assert type(out.images) is type(bare)
        assert (out.images.dtype, out.images.shape) == (bare.dtype, (4, *bare.shape[1:]))
        assert np.abs(np.asarray(out.images)[:2] - np.asarray(bare)).max() < 0.5 / 255 + 1e-6
    images, _ = guarded("a cat", output_type="pil", return_dict=False, **STEPS)
    assert isinstance(images[0], Image.Image)


@pytest.mark.parametrize("output_type", ["latent", "", None, 3, ["np"]])
def test_what_cannot_be_screened_is_not_given(guard: Guard, pipe: Any, output_type: Any) -> None:
    with pytest.raises(RequestError, match='output_type is "pil", "np" or "pt", not'):
        guard.wrap(pipe)("a cat", output_type=output_type, **STEPS)


def test_arguments_are_checked_as_the_pipeline_does(guard: Guard, pipe: Any) -> None:
    guarded: Any = guard.wrap(pipe)
    with pytest.raises(TypeError, match="multiple values"):
        guarded("a cat", prompt="a dog")
    with pytest.raises(PromptError, match="empty"):
        guarded(prompt=None)
    with pytest.raises(RequestError, match="use num_images_per_prompt"):
        guarded("a cat", n=2)
    with pytest.raises(RequestError, match="n is the number"):
        guarded("a cat", num_images_per_prompt=0)


def test_a_seed_is_the_guards(guard: Guard, pipe: Any) -> None:
    def strict(prompt: Any, num_images_per_prompt: int, generator: Any, num_inference_steps: int) -> Any:
        return pipe(prompt, None, None, num_inference_steps, generator=generator)

    out: Any = guard.wrap(strict)("a cat", seed=5, **STEPS)
    assert out.seed == 5
    assert out.images[0].tobytes() == guard.generate(pipe, "a cat", seed=5, **STEPS).images[0].tobytes()


def test_any_callable_with_images_can_be_wrapped(guard: Guard) -> None:
    out: Any = guard.wrap(_double)("a cat", num_images_per_prompt=2, num_inference_steps=1)
    assert len(out.images) == 2


def test_the_pipeline_inside_can_be_saved(guard: Guard, own: Any, tmp_path: Path) -> None:
    guard.wrap(own).save_pretrained(tmp_path)  # type: ignore[attr-defined]
    assert (tmp_path / "model_index.json").is_file()
