from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import flux, sd3, sdxl
from safelight.errors import ModelError
from safelight.guard.early_stop import decoded, peek_steps, watched
from safelight.guard.guard import Guard
from safelight.policy import Policy
from safelight.types import Finding

STEPS = {"num_inference_steps": 10, "height": 16, "width": 16}
STOPPING = ("[filters]", "[early_stop]\nat = [0.3, 0.5]\nscore = 0.9\n\n[filters]")


class Marks:
    """Sees a gun in image ``k`` of what it is shown from the moment that it was told to."""

    name, version = "marks", "1"

    @staticmethod
    def nothing() -> Any:
        from safelight import registry

        return registry.build("prompt_filter", "never")

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.guns: Callable[[int, int], float] = lambda call, row: 0.0

    def find(self, images: Sequence[Image.Image]) -> list[list[Finding]]:
        self.calls.append(len(images))
        scores = [self.guns(len(self.calls), row) for row in range(len(images))]
        return [[Finding("gun", score, self.name)] for score in scores]


@pytest.fixture
def marks() -> Marks:
    return Marks()


@pytest.fixture
def stopping(write_policy: Callable[..., Path], marks: Marks) -> Guard:
    from safelight import registry

    policy = Policy.load(write_policy(STOPPING))
    prompt = registry.bind("prompt_filter", "lexicon", words="storybook")
    return Guard(policy, {"prompt": [prompt], "image": [lambda: marks]})


def _pixels(image: Image.Image) -> bytes:
    return image.tobytes()


def test_peeking_changes_no_image(stopping: Guard, guard: Guard, pipe: Any, marks: Marks) -> None:
    peeked = stopping.generate(pipe, ["a cat", "a dog"], n=2, seed=5, **STEPS)
    plain = guard.generate(pipe, ["a cat", "a dog"], n=2, seed=5, **STEPS)
    assert [_pixels(i) for i in peeked.images] == [_pixels(i) for i in plain.images]
    assert marks.calls == [4, 4, 4]
    assert (peeked.stopped, peeked.action, peeked.notes) == ({}, "allow", ())
    assert [v.subject for v in peeked.verdicts] == ["prompt"] * 2 + ["generated_image"] * 4


def test_what_shows_harm_early_is_dropped_and_ends_the_call(stopping: Guard, pipe: Any, marks: Marks) -> None:
    counted = _count_steps(pipe)
    marks.guns = lambda call, row: 0.95 if call == 2 else 0.0
    result = stopping.generate(pipe, "a cat", seed=5, **STEPS)
    assert (result.images, result.indices, result.action) == ((), (), "block")
    stop = result.stopped[0]
    assert (stop.step, stop.steps, stop.saved) == (5, 10, 5)
    assert counted() == 5  # evaluations of the network
    assert result.verdicts_of(0)[-1].findings[0].label == "gun"
    assert result.to_dict()["stopped"] == {0: {"step": 5, "steps": 10, "saved": 5}}
    assert "step" not in vars(pipe.scheduler)
    assert len(stopping.generate(pipe, "a cat", seed=5, **STEPS).images) == 1


def _count_steps(pipe: Any) -> Callable[[], int]:
    """Count the calls of the network from now on."""
    count = 0

    def hook(*_: Any) -> None:
        nonlocal count
        count += 1

    handle = pipe.unet.register_forward_hook(hook)

    def counted() -> int:
        handle.remove()
        return count

    return counted


def test_the_others_of_a_batch_go_on(stopping: Guard, guard: Guard, pipe: Any, marks: Marks) -> None:
    marks.guns = lambda call, row: 0.95 if (call, row) in ((1, 1), (2, 0)) else 0.0
    result = stopping.generate(pipe, ["a cat", "a dog", "a cow"], seed=5, **STEPS)
    plain = guard.generate(pipe, ["a cat", "a dog", "a cow"], seed=5, **STEPS)
    assert marks.calls == [3, 2, 1]  # nobody looks again at what was dropped
    assert result.indices == (2,)
    assert _pixels(result.images[0]) == _pixels(plain.images[2])
    assert {number: (s.step, s.saved) for number, s in result.stopped.items()} == {1: (3, 0), 0: (5, 0)}


def test_a_call_whose_images_are_dropped_one_by_one_ends(stopping: Guard, pipe: Any, marks: Marks) -> None:
    marks.guns = lambda call, row: 0.95 if (call, row) in ((1, 1), (2, 0)) else 0.0
    result = stopping.generate(pipe, "a cat", n=2, seed=5, **STEPS)
    assert {number: (s.step, s.saved) for number, s in result.stopped.items()} == {1: (3, 5), 0: (5, 5)}


def test_what_is_not_sure_enough_is_finished(stopping: Guard, pipe: Any, marks: Marks) -> None:
    marks.guns = lambda call, row: 0.85 if call < 3 else 0.0
    result = stopping.generate(pipe, "a cat", seed=5, **STEPS)
    assert (len(result.images), result.stopped, result.action) == (1, {}, "allow")


def test_a_filter_that_fails_early_decides_at_the_end(stopping: Guard, pipe: Any, marks: Marks) -> None:
    def fail(call: int, row: int) -> float:
        raise RuntimeError("broken")

    marks.guns = fail
    result = stopping.generate(pipe, "a cat", seed=5, **STEPS)
    assert (result.images, result.stopped, result.action) == ((), {}, "block")
    assert "broken" in result.verdicts[-1].reasons[0]


def test_a_pipeline_that_cannot_be_watched_is_guarded_all_the_same(
    stopping: Guard, pipe: Any, marks: Marks
) -> None:
    odd = diffusers.StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    odd.set_progress_bar_config(disable=True)
    odd.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    type(odd.scheduler).__name__, kept = "OddScheduler", type(odd.scheduler).__name__
    try:
        result = stopping.generate(odd, "a cat", seed=5, **STEPS)
    finally:
        type(odd.scheduler).__name__ = kept
    assert len(result.images) == 1
    (note,) = result.notes
    assert "no image could be stopped early" in note
    assert "the scheduler OddScheduler is not supported" in note


def test_latents_that_cannot_be_decoded_are_finished(stopping: Guard, pipe: Any, marks: Marks) -> None:
    odd = diffusers.StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    odd.set_progress_bar_config(disable=True)
    decode = odd.vae.decode
    calls = 0

    def fail_at_first(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("odd latents")
        return decode(*args, **kwargs)

    odd.vae.decode = fail_at_first
    try:
        result = stopping.generate(odd, "a cat", seed=5, **STEPS)
    finally:
        del odd.vae.decode
    assert len(result.images) == 1
    assert result.notes == ("no image could be stopped early: RuntimeError: odd latents",)
    assert marks.calls == [1]


def test_without_a_scheduler_there_is_nothing_to_watch() -> None:
    with watched(object(), [0.5], lambda *_: None) as problems:
        assert "has no scheduler" in problems[0]


def test_steps_by_hand() -> None:
    assert peek_steps([0.28, 0.36, 0.44, 0.45], 25) == [7, 9, 11, 12]
    assert peek_steps([0.5, 0.01], 10) == [1, 5]


def test_one_category_does_not_stop_for_another(write_policy: Callable[..., Path], pipe: Any) -> None:
    """Blocked for violence at 0.6, which is not sure enough; weapons at 0.69 are only blurred."""

    class Both(Marks):
        def find(self, images: Sequence[Image.Image]) -> list[list[Finding]]:
            early = super().find(images) and len(self.calls) < 3
            seen = [Finding("violence", 0.6, "f"), Finding("gun", 0.69, "f")] if early else []
            return [list(seen) for _ in images]

    policy = Policy.load(
        write_policy(("[filters]", "[early_stop]\nat = [0.3, 0.5]\nscore = 0.65\n\n[filters]"))
    )
    result = Guard(policy, {"prompt": [Both.nothing], "image": [Both]}).generate(
        pipe, "a cat", seed=5, **STEPS
    )
    assert (len(result.images), result.stopped) == (1, {})


def test_watching_inside_of_watching(pipe: Any) -> None:
    seen: list[str] = []
    with watched(pipe, [0.5], lambda *_: seen.append("outer")):
        outer = pipe.scheduler.step
        with watched(pipe, [0.5], lambda *_: seen.append("inner")):
            pipe("a cat", generator=torch.Generator().manual_seed(1), **STEPS)
        assert pipe.scheduler.step is outer
    assert "step" not in vars(pipe.scheduler)
    assert sorted(seen) == ["inner", "outer"]


SCHEDULERS = [
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "PNDMScheduler",
    "HeunDiscreteScheduler",
]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_what_is_coming_comes(pipe: Any, name: str) -> None:
    """At the last step x₀ is what the pipeline gives, up to what the scheduler still adds."""
    watching = diffusers.StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    watching.set_progress_bar_config(disable=True)
    watching.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
    seen: list[tuple[int, int, Image.Image]] = []
    with watched(watching, [0.5, 0.999], lambda done, of, images: seen.append((done, of, images[0]))):
        final = watching("a cat", generator=torch.Generator().manual_seed(1), **STEPS).images[0]
    assert len(seen) == 2
    done, of, last = seen[-1]
    assert of - 1 <= done <= of
    difference = np.abs(np.asarray(final, float) - np.asarray(last, float)).mean()
    assert difference < 8  # of 255


@pytest.mark.parametrize("make", [sdxl, sd3, flux])
@pytest.mark.filterwarnings("ignore")
def test_every_family_can_be_watched(make: Callable[[Any], Any], pipe: Any) -> None:
    torch.manual_seed(0)
    family = make(pipe)
    family.set_progress_bar_config(disable=True)
    seen: list[tuple[int, int, Image.Image]] = []
    with watched(family, [0.5, 0.999], lambda done, of, images: seen.append((done, of, images[0])), STEPS):
        options = {"max_sequence_length": 16} if make is not sdxl else {}
        final = family("a cat", generator=torch.Generator().manual_seed(1), **STEPS, **options).images[0]
    assert [done for done, _, _ in seen] == [5, 10]
    last = np.asarray(seen[-1][2], float)
    assert np.abs(np.asarray(final, float) - last).mean() < 4


def test_large_images_are_decoded_small(pipe: Any) -> None:
    latents = torch.randn(1, 4, 600, 300, generator=torch.Generator().manual_seed(1))
    (image,) = decoded(pipe, latents, {})
    assert max(image.size) == 256
    with pytest.raises(ModelError, match=r"shape \(1, 4\) cannot be decoded"):
        decoded(pipe, latents[0, :, 0, :1].T, {})


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("at = []\nscore = 0.9", "at least 1 item"),
        ("at = [0.0]\nscore = 0.9", "greater than 0"),
        ("at = [1.0]\nscore = 0.9", "less than 1"),
        ("at = [0.4]\nscore = 2.0", "less than or equal to 1"),
        ("at = [0.4]", "this key is missing"),
        ("at = [0.4]\nscore = 0.9\nscores = 0.9", 'did you mean "score"'),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(
    write_policy: Callable[..., Path], table: str, said: str
) -> None:
    from safelight.errors import PolicyError

    with pytest.raises(PolicyError, match=said):
        Policy.load(write_policy(("[filters]", f"[early_stop]\n{table}\n\n[filters]")))
