"""Prompt projection removes concepts from the prompt embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

import safelight
from pipelines import FAMILIES, draw, family, sd3
from safelight.alignment.guidance import NegativePrompt, PolicyRisk, PromptProjection, PromptSimilarityRisk
from safelight.models.conditioning import _remove_span
from safelight.models.patched_method import patched_method
from safelight.policy import Policy
from safelight.storybook import judging
from safelight.storybook.detector import Judge
from safelight.storybook.suites import suite


def test_what_lies_in_the_directions_goes_and_the_rest_stays() -> None:
    """By hand, from the middle (1, 1, 1): (3, 4, 5) is (2, 3, 4) away, of which the plane of x and of
    (1, 1, 0) has (2, 3, 0); a second time nothing is left to take."""
    middle, said = torch.ones(3), torch.tensor([[[3.0, 4.0, 5.0], [1.0, 1.0, 2.0]]])
    directions = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    left = _remove_span(said, middle, directions)
    assert left[0].tolist() == [pytest.approx([1, 1, 5]), pytest.approx([1, 1, 2])]
    assert torch.allclose(_remove_span(left, middle, directions), left)
    assert torch.equal(_remove_span(said, middle, torch.zeros(1, 3)), said), "a text that says nothing"
    half = _remove_span(said.half(), middle, directions)
    assert half.dtype == torch.float16


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.filterwarnings("ignore")
def test_every_family_draws_the_rest_and_is_then_itself_again(name: str, pipe: Any) -> None:
    made, options, known = family(name, pipe)
    before = draw(made, **options)
    known.pop("scale", None)
    with PromptProjection("a cat", **known).attach(made) as attached:
        left = draw(made, **options)
        (trace,) = attached.traces
    assert np.abs(left - before).max() > 1e-3
    assert len(trace.steps) == 6
    assert all(0 < step.acting <= 1 for step in trace.steps)
    assert all(step.cosine == pytest.approx(1, abs=1e-4) for step in trace.steps)
    with PromptProjection(concepts=[None], **known).attach(made):
        assert (draw(made, **options) == before).all()
    with PromptProjection(concepts=[{"a cat": 0.0}], **known).attach(made):
        assert (draw(made, **options) == before).all()
    assert (draw(made, **options) == before).all()


@contextmanager
def telling(network: Any) -> Iterator[list[Any]]:
    """The states of texts that the network itself is told, call by call."""
    told: list[Any] = []

    def recording(ask: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            told.append(kwargs["encoder_hidden_states"].double().numpy())
            return ask(*args, **kwargs)

        return forward

    with patched_method(network, "forward", recording):
        yield told


def _states(made: Any, *texts: str) -> Any:
    return made.encode_prompt(list(texts), "cpu", 1, False)[0].detach().double().numpy()


def test_the_network_is_told_what_is_left_and_asked_nothing_more(made: Any) -> None:
    """Beside least squares, in numpy, of each word on "a cat" and on "blood"."""
    with telling(made.unet) as told, PromptProjection("a cat, blood").attach(made):
        draw(made, ["a cat and a dog", "a dog"])
    nothing, cat, blood, first, second = _states(made, "", "a cat", "blood", "a cat and a dog", "a dog")
    ends = [len(made.tokenizer(text).input_ids) - 2 for text in ("a cat", "blood")]
    middle = nothing[1:].mean(0)
    directions = np.stack([cat[ends[0]], blood[ends[1]]]) - middle
    assert {len(rows) for rows in told} == {4}
    for row, said in ((2, first), (3, second)):
        shares, *_ = np.linalg.lstsq(directions.T, (said[1:] - middle).T, rcond=None)
        assert told[0][row, 1:] == pytest.approx(said[1:] - (directions.T @ shares).T, abs=1e-5)
        assert (told[0][row, 0] == said[0]).all()
        assert (told[-1][row] == told[0][row]).all()
    assert told[0][:2] == pytest.approx(np.stack([nothing] * 2), abs=1e-6)


def test_each_prompt_has_its_own(made: Any) -> None:
    prompts = ["a cat", "a dog", "a cat"]
    before = draw(made, prompts)
    with PromptProjection(concepts=["a cat", None, "blood"]).attach(made) as attached:
        left = draw(made, prompts)
        assert [trace.acted for trace in attached.traces] == [True, False, True]
    assert np.abs(left[1] - before[1]).max() < 1e-5
    with PromptProjection("blood").attach(made):
        assert np.abs(draw(made, "a cat", seed=5) - left[2]).max() < 1e-5
    with PromptProjection("a cat").attach(made), NegativePrompt("blood").attach(made):
        both = draw(made, "a cat")
    assert np.abs(both - left[0]).max() > 1e-3, "no text is not the prompt"


def test_stable_diffusion_3_is_told_the_same_without_some_layers(pipe: Any) -> None:
    made = sd3(pipe)
    made.set_progress_bar_config(disable=True)
    options = {"max_sequence_length": 16, "skip_guidance_layers": [0], "skip_layer_guidance_start": 0.0}
    with telling(made.transformer) as told, PromptProjection("a cat").attach(made) as attached:
        draw(made, "a cat", **options)
        assert len(attached.traces[0].steps) == 6
    whole, skipping = (next(states for states in told if len(states) == rows) for rows in (2, 1))
    assert (whole[1] == skipping[0]).all()


@pytest.mark.filterwarnings("ignore")
def test_storybook_prompts_are_drawn_without_what_the_policy_minds() -> None:
    pipe = safelight.load_pipeline("storybook", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    judge, prompts = Judge.load(), [case.prompt for case in suite("harmful", 7, 8).cases]

    def harmful() -> int:
        images = pipe(
            prompts,
            num_inference_steps=12,
            generator=[torch.Generator().manual_seed(i) for i in range(len(prompts))],
        ).images
        return sum(bool(judging.harms_of(judging.seen(sighting))) for sighting in judge.detect(images))

    before = harmful()
    with PromptProjection(when=PolicyRisk(Policy.load("storybook"))).attach(pipe):
        after = harmful()
    assert before >= 5
    assert after <= 0.3 * before
    benign = draw(pipe, ["a hound", "an apple"], num_inference_steps=3)
    with PromptProjection("a gun, blood", when=PromptSimilarityRisk()).attach(pipe) as attached:
        assert (draw(pipe, ["a hound", "an apple"], num_inference_steps=3) == benign).all()
        assert attached.traces == ()
