"""Tiny real pipelines of diffusers whose ``safety_checker`` is a guard."""

from __future__ import annotations

import copy
import importlib.util
import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.cosmos import pipeline_cosmos2_5_predict, pipeline_cosmos3_omni
from PIL import Image

from safelight import registry
from safelight.errors import FilterError, MissingExtraError, PolicyError
from safelight.filters.constant import Always, Never
from safelight.guard.guard import Guard
from safelight.integrations import diffusers as integration
from safelight.integrations.diffusers import SafetyChecker
from safelight.policy import Policy
from safelight.types import Finding

COSMOS_MODULES = (pipeline_cosmos2_5_predict, pipeline_cosmos3_omni)
BLACK = ((0, 0),) * 3
GUN = partial(Always, "always", "gun")


class Bright:
    """Sees a gun in every image that is rather bright, and keeps what it saw."""

    name, version = "bright", "1"

    def __init__(self) -> None:
        self.seen: list[Image.Image] = []

    def find(self, images: Sequence[Image.Image]) -> list[list[Finding]]:
        self.seen += images
        return [[Finding("gun", 1.0, self.name)] if np.asarray(i).mean() > 128 else [] for i in images]


class Broken:
    name, version = "broken", "1"

    def find(self, images: Sequence[Image.Image]) -> list[list[Finding]]:
        raise MemoryError("no memory")


def _checker(policy: Policy, image_filter: Any) -> Any:
    words = partial(registry.build, "prompt_filter", "lexicon", name="lexicon", words="storybook")
    return SafetyChecker(Guard(policy, {"prompt": [words], "image": [image_filter]}))


def _pipeline(pipe: Any, checker: Any, kind: str = "StableDiffusionPipeline", **options: Any) -> Any:
    from transformers import CLIPImageProcessorPil

    parts = {**pipe.components, "safety_checker": checker, "feature_extractor": CLIPImageProcessorPil()}
    made = getattr(diffusers, kind)(**parts, **options)
    made.set_progress_bar_config(disable=True)
    return made


def _draw(pipe: Any, **options: Any) -> Any:
    generator = torch.Generator().manual_seed(3)
    return pipe("a cat", generator=generator, num_inference_steps=2, num_images_per_prompt=2, **options)


SOURCE = Image.new("RGB", (16, 16), "grey")
INPUTS: dict[str, dict[str, Any]] = {
    "StableDiffusionPipeline": {},
    "StableDiffusionImg2ImgPipeline": {"image": [SOURCE, SOURCE], "strength": 1.0},
    "StableDiffusionInpaintPipeline": {"image": SOURCE, "mask_image": SOURCE.convert("L"), "strength": 1.0},
}


@pytest.mark.parametrize("kind", INPUTS)
def test_blocked_images_are_black_and_flagged(pipe: Any, policy: Policy, kind: str) -> None:
    bare = _draw(_pipeline(pipe, None, kind, requires_safety_checker=False), **INPUTS[kind])
    allowed = _draw(_pipeline(pipe, _checker(policy, Never), kind), **INPUTS[kind])
    assert allowed.nsfw_content_detected == [False, False]
    assert allowed.images == bare.images
    blocked = _draw(_pipeline(pipe, _checker(policy, GUN), kind), **INPUTS[kind])
    assert blocked.nsfw_content_detected == [True, True]
    assert [image.getextrema() for image in blocked.images] == [BLACK, BLACK]


@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
def test_filters_see_what_the_pipeline_shows(pipe: Any, policy: Policy, output_type: str) -> None:
    bright = Bright()
    made = _pipeline(pipe, _checker(policy, lambda: bright))
    out = _draw(made, output_type=output_type)
    shown = _draw(_pipeline(pipe, None, requires_safety_checker=False)).images
    assert [image.tobytes() for image in bright.seen] == [image.tobytes() for image in shown]
    black = [not np.any(np.asarray(image)) for image in out.images]
    assert black == out.nsfw_content_detected


def test_a_checker_is_set_on_a_pipeline_moved_and_handed_on(
    pipe: Any, policy: Policy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = _pipeline(pipe, None, requires_safety_checker=False)
    made.safety_checker = _checker(policy, GUN)
    assert made.to("cpu").safety_checker.to("cpu", torch.float32) is made.safety_checker
    assert (made.dtype, made.device) == (torch.float32, torch.device("cpu"))
    assert _draw(made).nsfw_content_detected == [True, True]
    assert copy.deepcopy(made.safety_checker) is made.safety_checker
    other = diffusers.AutoPipelineForImage2Image.from_pipe(made)
    other.set_progress_bar_config(disable=True)
    assert _draw(other, image=[SOURCE, SOURCE], strength=1.0).nsfw_content_detected == [True, True]
    # It cannot be saved, and whoever loads the folder is told that there is none.
    made.save_pretrained(tmp_path)
    assert made.safety_checker is not None
    assert diffusers.StableDiffusionPipeline.from_pretrained(tmp_path).safety_checker is None
    again = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path, safety_checker=made.safety_checker)
    assert again.safety_checker is made.safety_checker


def test_a_checker_takes_the_place_of_the_original(
    pipe: Any, policy: Policy, checker_folder: Path, tmp_path: Path
) -> None:
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker

    original = StableDiffusionSafetyChecker.from_pretrained(checker_folder)
    _pipeline(pipe, original).save_pretrained(tmp_path)
    checker = _checker(policy, GUN)
    made = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path, safety_checker=checker)
    made.set_progress_bar_config(disable=True)
    assert made.safety_checker is checker
    assert _draw(made).nsfw_content_detected == [True, True]


def _arrays() -> Any:
    return np.stack([np.zeros((8, 8, 3), np.float32), np.ones((8, 8, 3), np.float32)])


@pytest.mark.parametrize(
    "make",
    [
        _arrays,
        lambda: (_arrays() * 255).astype(np.uint8),
        lambda: list(_arrays()),
        lambda: tuple(_arrays()),
        lambda: torch.from_numpy(_arrays().transpose(0, 3, 1, 2) * 2 - 1),
        lambda: torch.from_numpy(_arrays().transpose(0, 3, 1, 2) * 2 - 1).to(torch.bfloat16),
        lambda: list(torch.from_numpy(_arrays().transpose(0, 3, 1, 2) * 2 - 1)),
        lambda: [Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), "white")],
    ],
)
def test_every_kind_of_images_is_screened(policy: Policy, make: Any) -> None:
    images = make()
    given, flagged = _checker(policy, Bright)(images=images, clip_input=torch.zeros(2, 3, 4, 4))
    assert flagged == [False, True]
    assert given is images or isinstance(images, tuple)
    assert type(given[1]) is type(images[1])
    black = given[1].float() if torch.is_tensor(given[1]) else given[1]
    assert not np.any(np.asarray(black))


def test_an_array_that_cannot_be_written_is_copied(policy: Policy) -> None:
    images = _arrays()
    images.flags.writeable = False
    given, flagged = _checker(policy, Bright)(images)
    assert flagged == [False, True]
    assert not given.any()


ODD: list[Any] = [
    np.full((1, 8, 8, 3), np.nan, np.float32),
    np.full((1, 8, 8, 3), 1.5, np.float32),
    np.full((1, 8, 8, 3), -1, np.float32),
    np.zeros((1, 8, 8)),
    np.zeros((1, 8, 8, 7)),
    np.zeros((1, 0, 0, 3)),
    torch.full((1, 3, 8, 8), torch.nan),
    torch.zeros(1, 8, 8),
    [None],
    ["a file"],
    [b"bytes"],
]


@pytest.mark.parametrize("images", ODD, ids=range(len(ODD)))
def test_what_cannot_be_shown_is_flagged(policy: Policy, images: Any) -> None:
    given, flagged = _checker(policy, Never)(images)
    assert flagged == [True]
    assert given[0] is None or not np.any(np.asarray(given[0]))


@pytest.mark.parametrize("fails", ["filter", "guard"])
def test_an_error_flags_everything_and_quotes_nothing(
    policy: Policy, fails: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checker = _checker(policy, Broken if fails == "filter" else Never)
    if fails == "guard":
        for name in ("screen_images", "screen_prompts"):
            monkeypatch.setattr(checker.guard, name, partial(_raise, "canary"))
        assert not checker.check_text_safety("a cat")
    assert checker(_arrays())[1] == [True, True]
    assert checker.check_video_safety(np.zeros((2, 8, 8, 3), np.uint8)) is None
    assert "flagged" in caplog.text or "withheld" in caplog.text
    assert "canary" not in caplog.text


def _raise(text: str, *_: Any) -> None:
    raise RuntimeError(text)


@pytest.mark.parametrize(("score", "flagged"), [(0.1, False), (0.2, True), (0.4, True), (0.7, True)], ids=str)
def test_whatever_changes_or_withholds_an_image_flags_it(policy: Policy, score: float, flagged: bool) -> None:
    checker = _checker(policy, partial(Always, "always", "gun", score))
    assert checker(_arrays()[:1])[1] == [flagged]


def test_a_checker_without_an_image_filter_is_refused(policy: Policy) -> None:
    with pytest.raises(FilterError, match='policy "test" has no image filter'):
        SafetyChecker(Guard(policy, {"prompt": [Never]}))
    with pytest.raises(PolicyError, match="no policy"):
        SafetyChecker("nosuch")


def test_the_log_says_why_images_are_black(policy: Policy, caplog: pytest.LogCaptureFixture) -> None:
    _checker(policy, Bright)(_arrays())
    assert '1 of 2 images are withheld by the policy "test 1" (weapons)' in caplog.text


def _transformer(channels: int, condition: int = 0) -> Any:
    return diffusers.CosmosTransformer3DModel(
        in_channels=channels + condition, out_channels=channels, num_attention_heads=2,
        attention_head_dim=16, num_layers=1, mlp_ratio=2, text_embed_dim=8, adaln_lora_dim=4,
        max_size=(4, 32, 32), patch_size=(1, 2, 2), rope_scale=(2.0, 1.0, 1.0), concat_padding_mask=False,
    )  # fmt: skip


def _text_to_world(pipe: Any, checker: Any) -> Any:
    from transformers import T5Config, T5EncoderModel

    vae = diffusers.AutoencoderKLCosmos(
        latent_channels=4, encoder_block_out_channels=(8, 8), decode_block_out_channels=(8, 8),
        attention_resolutions=(8,), resolution=32, num_layers=1, patch_size=4, spatial_compression_ratio=4,
        temporal_compression_ratio=4,
    )  # fmt: skip
    config = T5Config(vocab_size=len(pipe.tokenizer), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    scheduler = diffusers.EDMEulerScheduler(sigma_max=80, sigma_data=0.5, final_sigmas_type="sigma_min")
    return diffusers.CosmosTextToWorldPipeline(
        text_encoder=T5EncoderModel(config), tokenizer=pipe.tokenizer, transformer=_transformer(4), vae=vae,
        scheduler=scheduler, safety_checker=checker,
    )  # fmt: skip


WORLD: dict[str, Any] = {"height": 32, "width": 32, "num_frames": 1, "num_inference_steps": 1}


def _world(made: Any, **options: Any) -> Any:
    made.set_progress_bar_config(disable=True)
    return made(**options, **WORLD, guidance_scale=1.0, output_type="np").frames


def test_cosmos_asks_about_the_prompt_and_the_video(pipe: Any, policy: Policy) -> None:
    made = _text_to_world(pipe, _checker(policy, Never))
    options = {"negative_prompt": "", "max_sequence_length": 16}
    assert _world(made, prompt="a cat", **options).shape == (1, 1, 32, 32, 3)
    with pytest.raises(ValueError, match="unsafe text in the prompt"):
        _world(made, prompt="a gun", **options)
    made.safety_checker = _checker(policy, GUN)
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        _world(made, prompt="a cat", **options)


def test_cosmos_predict_does_not_skip_the_video(policy: Policy) -> None:
    vae = diffusers.AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    made = diffusers.Cosmos2_5_PredictBasePipeline(
        text_encoder=None, tokenizer=None, transformer=_transformer(16, 1), vae=vae,
        scheduler=diffusers.UniPCMultistepScheduler(), safety_checker=_checker(policy, Never),
    )  # fmt: skip
    prompt = {"prompt_embeds": torch.randn(1, 4, 8)}
    assert _world(made, **prompt).shape == (1, 1, 32, 32, 3)
    made.safety_checker = _checker(policy, GUN)
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        _world(made, **prompt)


def test_videos_are_given_back_whole_or_not_at_all(policy: Policy) -> None:
    checker = _checker(policy, Bright)
    frames = np.zeros((5, 8, 8, 3), np.uint8)
    assert checker.check_video_safety(frames) is frames
    frames[3] = 255
    assert checker.check_video_safety(frames) is None
    for odd in (frames[:0], frames[0], frames.astype(float), list(frames), None):
        assert checker.check_video_safety(odd) is None


@pytest.mark.parametrize("prompt", ["", None, 3, "a gun", "\x00", "x" * 100_001], ids=repr)
def test_prompts_that_cannot_be_screened_are_not_safe(policy: Policy, prompt: Any) -> None:
    assert not _checker(policy, Never).check_text_safety(prompt)


def test_every_cosmos_pipeline_takes_it_for_its_own(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    checker = _checker(policy, Never)
    assert all(isinstance(checker, module.CosmosSafetyChecker) for module in COSMOS_MODULES)

    class Installed(torch.nn.Module):
        """As cosmos_guardrail has it: one class for all, whose initialiser loads models."""

        def __init__(self) -> None:
            raise AssertionError("it loads models")

    for module in COSMOS_MODULES:
        monkeypatch.setattr(module, "CosmosSafetyChecker", Installed)
    checker = _imported_again().SafetyChecker(_checker(policy, Bright).guard)
    assert isinstance(checker, Installed)
    assert checker.to("cpu", torch.bfloat16) is checker
    assert (checker.device.type, checker.dtype) == ("cpu", torch.bfloat16)
    assert checker(_arrays())[1] == [False, True]


def test_without_diffusers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers.pipelines.cosmos", None)
    with pytest.raises(MissingExtraError, match='needs the extra "generate"'):
        _imported_again()


def _imported_again() -> Any:
    """The module, made anew beside itself."""
    spec = importlib.util.spec_from_file_location("safelight_integrations_again", integration.__file__)
    assert spec
    assert spec.loader
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    return again


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    """Diffusers warns about what these tests do on purpose, at a level that the tests do not set."""
    from diffusers.utils import logging as diffusers_logging

    level = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    logging.getLogger("safelight").setLevel(logging.WARNING)
    yield
    diffusers_logging.set_verbosity(level)
    logging.getLogger("safelight").setLevel(logging.NOTSET)
