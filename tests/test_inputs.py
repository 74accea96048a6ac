from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from PIL import Image

from fuzz import call_arguments
from safelight.concurrency.deadline import Deadline
from safelight.errors import DeadlineError, ImageError, PromptError, RequestError
from safelight.guard.guard import Guard
from safelight.guard.inputs import Inputs
from safelight.guard.request import RequestLimits
from safelight.images import ImageLimits

IMAGE = Image.new("RGB", (8, 8), "red")
GUN = "a gun"


def _png() -> bytes:
    buffer = io.BytesIO()
    IMAGE.save(buffer, "PNG")
    return buffer.getvalue()


def _nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def _endless() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


# Argument, value, and what becomes of it: "text" and "image" are screened, "allowed" goes on as it is.
UNUSUAL: list[tuple[str, Any, str]] = [
    ("negative_prompt", GUN, "text"),
    ("negative_prompt_3", [GUN, ""], "text"),
    ("prompt_4", (GUN,), "text"),
    ("system_prompt", GUN, "text"),
    ("gligen_phrases", ["a cat", GUN], "text"),
    ("target_subject_category", GUN, "text"),
    ("complex_human_instruction", ["Draw this:", GUN], "text"),
    ("text", GUN, "text"),
    ("instruction", GUN, "text"),
    ("style_name", GUN, "text"),
    ("editing_prompt", [GUN], "text"),
    ("lyrics", GUN, "text"),
    ("audio_file", GUN, "text"),
    ("messages", [{"role": "user", "content": [{"type": "text", "text": GUN}]}], "text"),
    ("prompt_segments", [{"text": GUN, "start_step": 3}], "text"),
    ("prompt_template", {"template": GUN, "crop_start": 95}, "text"),
    ("cross_attention_kwargs", {"gligen": {"phrases": [GUN], "boxes": [[0.1, 0.2, 0.5, 0.6]]}}, "text"),
    ("joint_attention_kwargs", {"scale": 0.5, "concept": GUN}, "text"),
    ("attention_kwargs", {GUN: None}, "text"),
    ("anything_unknown", _nested(GUN, 12), "text"),
    ("anything_unknown", (None, [GUN]), "text"),
    ("image", IMAGE, "image"),
    ("image", {"first": IMAGE}, "image"),
    ("image", _png(), "image"),
    ("image", bytearray(_png()), "image"),
    ("image", io.BytesIO(_png()), "image"),
    ("image", np.zeros((8, 9, 3), np.uint8), "image"),
    ("image", np.zeros((8, 9, 3)), "image"),
    ("image", np.zeros((1, 8, 9, 3), np.float32), "image"),
    ("mask_image", np.zeros((8, 9), bool), "image"),
    ("ip_adapter_image", [[IMAGE], [IMAGE]], "image"),
    ("negative_ip_adapter_image", IMAGE, "image"),
    ("video", [IMAGE, IMAGE], "image"),
    ("odd_name", IMAGE, "image"),
    ("cross_attention_kwargs", {"ip_adapter": {"reference": [IMAGE]}}, "image"),
    ("num_inference_steps", 3, "allowed"),
    ("height", np.int64(8), "allowed"),
    ("guidance_scale", 7, "allowed"),
    ("sigmas", np.linspace(1, 0, 3), "allowed"),
    ("timesteps", [999, 1], "allowed"),
    ("crops_coords_top_left", (0, 0), "allowed"),
    ("strength", [0.5, None], "allowed"),
    ("cross_attention_kwargs", {"scale": 0.5}, "allowed"),
    ("clip_skip", None, "allowed"),
    ("prompt_embeds", None, "allowed"),
    ("output_type", "pil", "allowed"),
    ("return_dict", True, "allowed"),
    ("prompt_strength", 0.5, "allowed"),
    ("height", GUN, "refused"),
    ("num_inference_steps", [GUN], "refused"),
    ("guidance_scale", {GUN: 1}, "refused"),
    ("guidance_scale", float("nan"), "refused"),
    ("prompt_embeds", np.zeros((1, 4, 8)), "refused"),
    ("prompt_embeds", GUN, "refused"),
    ("negative_pooled_prompt_embeds", np.zeros(3), "refused"),
    ("ip_adapter_image_embeds", [np.zeros(3)], "refused"),
    ("latents", np.zeros((1, 4, 8, 8)), "refused"),
    ("masked_image_latents", np.zeros((1, 4, 8, 8)), "refused"),
    ("prompt_attention_mask", np.ones((1, 8)), "refused"),
    ("input_ids", [[1, 2, 3]], "refused"),
    ("class_labels", 7, "refused"),
    ("enable_safety_check", False, "refused"),
    ("sld_guidance_scale", 0, "refused"),
    ("lora_scale", 0.5, "refused"),
    ("loras", ["a_gun"], "refused"),
    ("callback_on_step_end", print, "refused"),
    ("generator", 7, "refused"),
    ("generator", GUN, "refused"),
    ("image", "a file.png", "refused"),
    ("image", ["https://example.org/a.png"], "refused"),
    ("image", Path("a.png"), "refused"),
    ("image", b"no image", "refused"),
    ("image", io.BytesIO(), "refused"),
    ("image", 3, "refused"),
    ("image", np.full((8, 9, 3), -1.0), "refused"),
    ("image", np.full((8, 9, 3), np.nan), "refused"),
    ("image", np.zeros((4, 8, 9)), "refused"),
    ("image", np.zeros((16, 8, 9)), "refused"),
    ("image", np.zeros((8, 9, 3), np.int64), "refused"),
    ("image", np.array([object()]), "refused"),
    ("mask_image", [np.zeros((3, 3, 3))], "refused"),
    ("frames_of_it", np.zeros((2, 3, 4, 5, 6)), "refused"),
    ("cross_attention_kwargs", {"ip_adapter_masks": [np.zeros((1, 4, 8, 8))]}, "refused"),
    ("cross_attention_kwargs", {"height": GUN}, "refused"),
    ("cross_attention_kwargs", {"anything_unknown": 3}, "refused"),
    ("cross_attention_kwargs", {3: GUN}, "refused"),
    ("anything_unknown", 3, "refused"),
    ("anything_unknown", b"a gun", "refused"),
    ("anything_unknown", np.zeros((8, 8, 3)), "refused"),
    ("anything_unknown", {GUN, "a cat"}, "refused"),
    ("anything_unknown", iter([GUN]), "refused"),
    ("anything_unknown", (each for each in [GUN]), "refused"),
    ("anything_unknown", SimpleNamespace(text=GUN), "refused"),
    ("anything_unknown", _nested(GUN, 10_000), "refused"),
    ("anything_unknown", _endless(), "refused"),
    ("anything_unknown", [["a cat"] * 101] * 101, "refused"),
    ("prompt_2", 3, "refused"),
    ("prompt_2", {"text": GUN}, "refused"),
    ("prompt_2", [["a cat"]], "refused"),
    ("prompt_2", "a\x00cat", "refused"),
    ("text", "a \ud83d cat", "refused"),
    ("output_type", "latent", "refused"),
    ("return_dict", False, "refused"),
    ("num_images_per_prompt", 2, "refused"),
    ("batch_size", 8, "refused"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "outcome"), UNUSUAL, ids=[f"{i}-{row[0]}-{row[2]}" for i, row in enumerate(UNUSUAL)]
)
def test_every_argument_is_screened_or_allowed_by_name_or_refused(
    name: str, value: Any, outcome: str
) -> None:
    if outcome == "refused":
        with pytest.raises(RequestError, match=r"\.$"):
            Inputs.of({name: value})
        return
    inputs = Inputs.of({name: value})
    found = {"text": GUN in inputs.texts.get(name, ()), "image": bool(inputs.images), "allowed": False}
    assert found.get(outcome) or (outcome == "allowed" and not inputs.images and GUN not in str(inputs.texts))
    assert [kind for kind, there in found.items() if there] == ([] if outcome == "allowed" else [outcome])
    assert list(inputs.arguments) == [name]


@pytest.mark.parametrize(
    ("name", "value", "error", "says"),
    [
        ("prompt_embeds", 1, RequestError, "prompt_embeds cannot be screened; give the prompt as text"),
        ("image", ["a.png"], ImageError, "image is a path or a text, which cannot be screened; give a PIL"),
        ("image", np.zeros((4, 8, 9)), ImageError, "four channels of float64, as latents do"),
        ("prompt_2", "a\x00cat", PromptError, "prompt_2: the prompt has the control character"),
        (
            "latents",
            1,
            RequestError,
            r'latents \(int\) cannot .* allow it with .*allow_arguments=\("latents",',
        ),
        ("callback", print, RequestError, "callback sees images before they are screened"),
        (
            "cross_attention_kwargs",
            {"a": {"b": 3}},
            RequestError,
            r'kwargs.a.b \(int\) .*"cross_attention_kw',
        ),
        ("height", "512", RequestError, "height is a number, or a list of numbers, not text"),
    ],
)
def test_a_refusal_says_where_it_is_and_what_to_do(
    name: str, value: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        Inputs.of({name: value})


def test_tensors_of_images_become_images_and_other_tensors_are_refused() -> None:
    torch = pytest.importorskip("torch")
    inputs = Inputs.of({"image": torch.ones(2, 3, 8, 9), "mask_image": torch.zeros(1, 8, 9)})
    assert [image.size for image in inputs.arguments["image"]] == [(9, 8), (9, 8)]
    assert inputs.arguments["image"] == list(inputs.images["image"])
    assert inputs.images["image"][0].getpixel((0, 0)) == (255, 255, 255)
    for wrong in (torch.rand(1, 4, 8, 8), torch.rand(3, 8, 9) - 1, torch.rand(1, 16, 8, 8), torch.rand(3)):
        with pytest.raises(ImageError):
            Inputs.of({"image": wrong})
    with pytest.raises(RequestError, match="latents"):
        Inputs.of({"latents": torch.rand(1, 4, 8, 8)})


def test_the_pipeline_gets_what_was_screened_and_nothing_of_the_callers_own() -> None:
    class Shifty(str):
        def __str__(self) -> str:
            return GUN

        __format__ = __repr__ = lambda self, *_: GUN  # type: ignore[assignment]

    class Turning(list[Any]):
        said = 0

        def __iter__(self) -> Any:
            self.said += 1
            return iter(["a cat" if self.said == 1 else GUN])

    buffer, array, mine = (
        io.BytesIO(_png()),
        np.zeros((8, 9, 3), np.uint8),
        {"gligen": {"phrases": ["a cat"]}},
    )
    given = {"prompt_2": Shifty("a cat"), "text": Turning(["a cat"]), "cross_attention_kwargs": mine}
    inputs = Inputs.of({**given, "image": [buffer, array]})
    mine["gligen"]["phrases"].append(GUN)
    array[:] = 255
    assert str(inputs.arguments["prompt_2"]) == "a cat"
    assert type(inputs.arguments["prompt_2"]) is str
    assert (inputs.arguments["text"], inputs.texts["text"]) == (["a cat"], ("a cat",))
    assert inputs.arguments["cross_attention_kwargs"] == {"gligen": {"phrases": ["a cat"]}}
    first, second = inputs.arguments["image"]
    assert (first, second) == inputs.images["image"]
    assert (first.getpixel((0, 0)), second.getpixel((0, 0))) == ((255, 0, 0), (0, 0, 0))


def test_a_text_that_passes_for_the_name_of_a_number_is_screened() -> None:
    class Passing(str):
        __hash__ = lambda self: hash("height")  # noqa: E731
        __eq__ = lambda self, other: other == "height"  # noqa: E731
        strip = __len__ = lambda self, *_: 0  # type: ignore[assignment]

    assert Inputs.of({"attention_kwargs": {Passing(GUN): None}}).texts == {"attention_kwargs": (GUN,)}
    assert list(Inputs.of({Passing("text"): GUN}).texts) == ["text"]
    assert Inputs.of({"text": Passing(GUN)}).texts == {"text": (GUN,)}


def test_an_image_is_a_plain_copy_of_the_frame_that_was_given(tmp_path: Path) -> None:
    IMAGE.save(tmp_path / "a.gif", save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")])
    with Image.open(tmp_path / "a.gif") as animation:
        given = Inputs.of({"image": animation}).arguments["image"]
    assert type(given) is Image.Image
    assert given.convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_an_image_that_cannot_be_read_or_is_too_large_is_refused(tmp_path: Path) -> None:
    whole = _png()
    (tmp_path / "a.png").write_bytes(whole[:50])
    with Image.open(tmp_path / "a.png") as damaged, pytest.raises(ImageError, match="image cannot be read"):
        Inputs.of({"image": damaged})
    for large in (IMAGE, whole, np.zeros((8, 8), np.uint8)):
        with pytest.raises(ImageError, match="image"):
            Inputs.of({"image": large}, image_limits=ImageLimits(pixels=63))


def test_what_the_operator_opens_goes_through_and_what_can_be_screened_in_it_still_is() -> None:
    latents, token = np.zeros((1, 4, 8, 8)), object()
    opened = {"latents": latents, "odd": {"a": [token, GUN, IMAGE], 3: 4}, "height": "tall"}
    inputs = Inputs.of(opened, allowed=["latents", "odd", "height"])
    assert inputs.arguments["latents"] is latents
    assert inputs.arguments["odd"]["a"][0] is token
    assert inputs.arguments["odd"][3] == 4
    assert inputs.texts == {"odd": ("a", GUN), "height": ("tall",)}
    assert len(inputs.images["odd"]) == 1
    with pytest.raises(RequestError, match="latents"):
        Inputs.of({"latents": latents}, allowed=["odd"])


def test_a_guard_opens_arguments_for_all_its_requests(guard: Guard) -> None:
    seen: list[Any] = []

    def pipe(**arguments: Any) -> Any:
        seen.append(arguments.get("callback_on_step_end"))
        return SimpleNamespace(images=[IMAGE])

    with pytest.raises(RequestError, match="allow_arguments"):
        guard.generate(pipe, "a cat", callback_on_step_end=print)
    opened = Guard(
        guard.policy,
        {stage: screen.builders for stage, screen in guard._screens.items()},
        allow_arguments=["callback_on_step_end"],
    )
    opened.with_policy(guard.policy).generate(pipe, "a cat", callback_on_step_end=print)
    assert seen == [print]


@pytest.mark.parametrize(
    ("name", "value"), [row[:2] for row in UNUSUAL if row[2] == "text" and "negative" not in row[0]]
)
def test_no_harmful_text_reaches_a_pipeline_in_any_argument(guard: Guard, name: str, value: Any) -> None:
    def pipe(**arguments: Any) -> Any:
        raise AssertionError(arguments)

    result = guard.generate(pipe, "a cat", **{name: value})
    assert (result.action, result.images) == ("block", ())
    assert "block" in {verdict.action for verdict in result.verdicts if verdict.subject == name}


def test_there_are_limits_to_what_the_arguments_hold() -> None:
    few = RequestLimits(inputs=2, characters=10, characters_of_all=15)
    Inputs.of({"text": ["a cat", "a dog"]}, limits=few)
    for arguments, says in (
        ({"text": ["a"] * 3}, "more than 2 texts and images"),
        ({"text": ["a"], "image": [IMAGE] * 2}, "more than 2 texts and images"),
        ({"text": "a" * 11}, "text: the prompt has 11 characters; shorten it to 10"),
        ({"text": ["a" * 8] * 2}, "more than 15 characters"),
    ):
        with pytest.raises(RequestError, match=says):
            Inputs.of(arguments, limits=few)


def test_arguments_follow_the_prompts_that_are_left() -> None:
    arguments = {
        "negative_prompt": ["a", "b", "c"],
        "prompt_2": "d",
        "sigmas": [1, 2, 3],
        "instruction": "e",
        "gligen_phrases": ["f", "g", "h"],
        "ip_adapter_image": ["i", "j", "k"],
        "image": ["l", "m", "n"],
    }
    assert Inputs({}, {}).only([0, 2], 3, arguments) == {
        **arguments,
        "negative_prompt": ["a", "c"],
        "prompt_2": ["d", "d"],
        "image": ["l", "n"],
    }


@settings(max_examples=300, deadline=None, derandomize=True)
@given(call=call_arguments.cases)
def test_every_text_and_image_that_reaches_the_pipeline_was_screened(call: call_arguments.Call) -> None:
    call_arguments.check(call)


def test_a_pipeline_draws_the_same_from_an_array_as_from_its_image(guard: Guard, pipe: Any) -> None:
    import diffusers
    import torch

    made = diffusers.StableDiffusionInpaintPipeline(**pipe.components, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    pixels = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    image, half = Image.fromarray(pixels), np.zeros((16, 16), bool)
    half[:8] = True
    given = [
        (image, Image.fromarray(half)),
        (pixels, half),
        (torch.from_numpy(pixels).permute(2, 0, 1) / 255, torch.from_numpy(half)[None].float()),
    ]
    drawn = [
        guard.generate(made, "a cat", seed=1, image=one, mask_image=mask, num_inference_steps=2, strength=1.0)
        for one, mask in given
    ]
    assert {result.action for result in drawn} == {"allow"}
    assert len({result.images[0].tobytes() for result in drawn}) == 1


def test_reading_arguments_ends_with_the_deadline() -> None:
    with pytest.raises(DeadlineError):
        Inputs.of({"image": [Image.new("RGB", (8, 8))] * 2}, deadline=Deadline(1e-9))


@pytest.mark.parametrize("count", [1, 3])
def test_there_is_one_generator_for_each_image(guard: Guard, count: int) -> None:
    generators = [torch.Generator() for _ in range(count)]
    with pytest.raises(RequestError, match=f"each of the 2 images, not {count}"):
        guard.generate(SimpleNamespace(), "a cat", n=2, generator=generators)
