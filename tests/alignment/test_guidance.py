"""How guidance is attached and removed, and which concepts of which image it steers away from."""

from __future__ import annotations

import copy
from contextlib import ExitStack
from typing import Any

import diffusers
import numpy as np
import pytest

from pipelines import draw, flux
from safelight.alignment.guidance import (
    NegativeGuidance,
    NegativePrompt,
    SafeGuidance,
    SafetyConfig,
    concept_of,
)
from safelight.errors import ModelError, RequestError
from safelight.policy.taxonomy import load_taxonomy

CONFIG = SafetyConfig(5000, 1.0, 0.5, 0.7, 0)
PROMPTS = ["a cat", "a dog"]


def _guided(made: Any, *guidances: Any, **options: Any) -> Any:
    with ExitStack() as stack:
        for guidance in guidances:
            stack.enter_context(guidance.attach(made))
        return draw(made, **options)


def _same(a: Any, b: Any, within: float = 1e-5) -> bool:
    return bool(np.abs(a - b).max() < within)


def test_what_several_take_away_adds_up(made: Any) -> None:
    blood, smoke = (SafeGuidance(CONFIG, concept) for concept in ("blood", "smoke"))
    one, other = _guided(made, blood), _guided(made, smoke)
    both = _guided(made, blood, smoke)
    assert not _same(both, one)
    assert not _same(both, other)
    assert _same(both, _guided(made, SafeGuidance(CONFIG, ["blood", "smoke"])))


def test_the_last_one_takes_the_hook_off(made: Any) -> None:
    before = draw(made)
    first = SafeGuidance(CONFIG, "blood").attach(made)
    with SafeGuidance(CONFIG, "smoke").attach(made):
        first.detach()
        first.detach()
        assert _same(draw(made), _guided(copy_of(made), SafeGuidance(CONFIG, "smoke")))
    assert (draw(made) == before).all()
    assert "forward" not in vars(made.unet)
    assert "set_timesteps" not in vars(made.scheduler)


def copy_of(made: Any) -> Any:
    parts = {name: copy.deepcopy(part) for name, part in made.components.items()}
    vars(parts["unet"]).pop("forward", None)
    vars(parts["scheduler"]).pop("set_timesteps", None)
    other = diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    return other


def test_an_error_on_the_way_takes_the_hook_off(made: Any) -> None:
    with pytest.raises(TypeError), SafeGuidance(CONFIG, "blood").attach(made):
        made("a cat", guidance_scale="much")
    assert "forward" not in vars(made.unet)


def test_concepts_count_as_much_as_they_are_said_to(made: Any) -> None:
    before = draw(made)
    blood = _guided(made, SafeGuidance(CONFIG, "blood"))
    assert _same(_guided(made, SafeGuidance(CONFIG, {"blood": 1.0, "smoke": 0.0})), blood)
    assert (_guided(made, SafeGuidance(CONFIG, {"blood": 0.0})) == before).all()
    half = _guided(made, SafeGuidance(CONFIG, {"blood": 0.5}))
    assert not _same(half, blood)
    assert not _same(half, before)


def test_a_bounded_image_is_led_no_further_than_its_prompt_leads(made: Any) -> None:
    """Ten times as much guidance changes the direction, and not how far it goes."""
    free, bound = (SafeGuidance(CONFIG, {"blood": 10.0}, bounded=bounded) for bounded in (False, True))
    steps: dict[bool, list[float]] = {}
    for guidance in (free, bound):
        with guidance.attach(made) as attached:
            draw(made)
        steps[guidance.bounded] = [step.strength for step in attached.traces[0].steps]
    assert max(steps[True]) <= 2 + 1e-4  # from the prompt's direction to its opposite
    assert max(steps[False]) > 4
    plain = draw(made)
    assert _same(_guided(made, SafeGuidance(CONFIG, {"blood": 0.0}, bounded=True)), plain)
    assert not _same(_guided(made, bound), plain)


def test_each_prompt_has_a_concept_of_its_own(made: Any) -> None:
    """The first image alone, led away from blood; the second in no way."""
    options = {"prompt": PROMPTS, "num_images_per_prompt": 2}
    plain = draw(made, **options)
    mixed = _guided(made, SafeGuidance(CONFIG, concepts=["blood", None]), **options)
    blood = _guided(made, SafeGuidance(CONFIG, "blood"), **options)
    assert _same(mixed[:2], blood[:2])
    assert _same(mixed[2:], plain[2:])
    swapped = _guided(made, SafeGuidance(CONFIG, concepts=["smoke", {"blood": 1.0}]), **options)
    assert _same(swapped[2:], blood[2:])
    assert not _same(swapped[:2], blood[:2])


def test_images_of_a_batch_do_not_know_of_each_other(made: Any) -> None:
    guidance = SafeGuidance(CONFIG, "blood")
    together = _guided(made, guidance, prompt=PROMPTS)
    alone = [_guided(made, guidance, prompt=prompt, seed=3 + i)[0] for i, prompt in enumerate(PROMPTS)]
    assert _same(together, np.stack(alone), within=1e-3)  # μ makes much of little
    assert not _same(together, draw(made, PROMPTS), within=1e-2)


def test_a_negative_prompt_is_that_of_the_pipeline(made: Any) -> None:
    expected = draw(made, negative_prompt="blood")
    assert _same(_guided(made, NegativePrompt("blood")), expected)
    assert not _same(expected, draw(made))


def test_negative_guidance_is_a_negative_prompt_of_its_own_strength(made: Any) -> None:
    """ε_S + s (ε_p - ε_S) is ε_0 + s (ε_p - ε_0) - (s - 1) (ε_S - ε_0)."""
    scale = 7.5
    expected = draw(made, negative_prompt="blood")
    assert _same(_guided(made, NegativeGuidance((scale - 1) / scale, "blood")), expected)
    assert (_guided(made, NegativeGuidance(0, "blood")) == draw(made)).all()


def test_the_warm_up_is_a_noise_level(made: Any) -> None:
    """Of 50 steps of the paper's the first seven are not guided, of 10 the first."""
    made.scheduler = diffusers.DDIMScheduler.from_config(
        made.scheduler.config, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    )
    for steps, waiting in ((50, 7), (10, 1)):
        with SafeGuidance("strong", "blood").attach(made) as attached:
            draw(made, num_inference_steps=steps)
        acting = [step.acting > 0 for step in attached.traces[0].steps]
        assert acting == [False] * waiting + [True] * (steps - waiting)


def test_before_it_acts_it_looks_only_for_what_it_will_remember(made: Any) -> None:
    with SafeGuidance(SafetyConfig(5000, 1.0, warm_up=25), "blood").attach(made) as attached:
        draw(made, num_inference_steps=10)
    assert 4 <= len(attached.traces[0].steps) <= 6


def test_a_trace_says_where_guidance_acted(made: Any) -> None:
    with SafeGuidance(SafetyConfig(5000, 0.0), concepts=["blood", None]).attach(made) as attached:
        draw(made, PROMPTS)
    led, alone = attached.traces
    assert led.acted
    assert not alone.acted
    for step in led.steps:
        assert 0 < step.acting < 1, "only where the prompt leads to the concept"
        assert step.strength > 0
        assert -1 <= step.cosine <= 1
    assert all(step.strength == 0 and step.cosine == -1 for step in alone.steps)
    assert led.plot().tobytes() != alone.plot().tobytes()
    noises = [step.noise for step in led.steps]
    assert noises == sorted(noises, reverse=True)
    assert len(noises) == 6


def test_a_prompt_that_is_the_concept_points_at_it(made: Any) -> None:
    with SafeGuidance(CONFIG, "a cat").attach(made) as attached:
        draw(made, ["a cat", "zebra crossings"])
    cat, crossings = (trace.steps[0] for trace in attached.traces)
    assert cat.cosine == pytest.approx(1, abs=1e-4)
    assert crossings.cosine < 0.999


@pytest.mark.filterwarnings("ignore")
def test_a_pipeline_that_guides_itself_otherwise_than_said_is_an_error(pipe: Any) -> None:
    made = flux(pipe)
    made.set_progress_bar_config(disable=True)
    two_calls = {"true_cfg_scale": 4.0, "negative_prompt": "a dog", "max_sequence_length": 16}
    with pytest.raises(ModelError, match="give the guidance a scale"):
        _guided(made, SafeGuidance(CONFIG, "blood"), max_sequence_length=16)
    with pytest.raises(ModelError, match="give its true_cfg_scale"):
        _guided(made, SafeGuidance(CONFIG, "smoke", scale=3.5), **two_calls)
    with pytest.raises(ModelError, match="do not give a true_cfg_scale"):
        _guided(made, SafeGuidance(CONFIG, "fire", true_cfg_scale=4.0), max_sequence_length=16)
    with pytest.raises(ModelError, match="a negative prompt has no effect"):
        _guided(made, NegativePrompt("blood"), max_sequence_length=16)


def test_a_scheduler_that_changes_meanwhile_is_an_error(made: Any) -> None:
    with SafeGuidance(CONFIG, "blood").attach(made):
        made.scheduler = diffusers.EulerDiscreteScheduler()
        with pytest.raises(ModelError, match=r"the scheduler .* was replaced"):
            draw(made)


def test_a_network_that_changes_meanwhile_is_an_error(made: Any) -> None:
    with SafeGuidance(CONFIG, "blood").attach(made):
        made.unet = copy.deepcopy(made.unet)
        with pytest.raises(ModelError, match=r"the denoiser .* was replaced"):
            draw(made)


def test_another_pipeline_with_the_same_network_is_not_guided(made: Any) -> None:
    """Each is guided by what was attached to it, undone in whatever order."""
    other = diffusers.StableDiffusionPipeline(**made.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    other.scheduler = copy.deepcopy(made.scheduler)
    before = draw(made)
    blood = _guided(made, SafeGuidance(CONFIG, "blood"))
    first = SafeGuidance(CONFIG, "blood").attach(made)
    assert (draw(other) == before).all()
    second = SafeGuidance(CONFIG, "smoke").attach(other)
    assert (draw(made) == blood).all()
    assert not _same(draw(other), before)
    first.detach()
    assert (draw(made) == before).all()
    second.detach()
    assert (draw(other) == before).all()
    assert made.unet is other.unet


def test_a_pipeline_of_no_known_family_is_refused() -> None:
    with pytest.raises(ModelError, match="no text conditioning"):
        SafeGuidance().attach(object())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"concept": ""}, "not empty"),
        ({"concept": []}, "no concept"),
        ({"concept": {"blood": -1.0}}, 'the weight of the concept "blood" is -1.0'),
        ({"concept": {"blood": float("nan")}}, "is nan"),
        ({"concepts": []}, "give one for each"),
        ({"true_cfg_scale": 1.0}, "must be above 1"),
    ],
)
def test_a_concept_says_something(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        SafeGuidance("medium", **options)


def test_there_is_a_concept_for_each_prompt(made: Any) -> None:
    with pytest.raises(RequestError, match="concepts for 2 prompts, but 3 images"):
        _guided(made, SafeGuidance(CONFIG, concepts=["blood", None]), prompt=["a cat", "a dog", "a fish"])


def test_the_categories_have_concepts_but_for_what_is_never_drawn() -> None:
    categories = load_taxonomy().categories
    with pytest.raises(RequestError, match='no concept describes "csae"'):
        concept_of("csae")
    for category in ("violence", "sexual.nudity", "weapons", "illegal", "hate"):
        assert category in categories
        assert concept_of(category).startswith("an image showing ")
