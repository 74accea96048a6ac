"""Debias gives the attributes of a word the asked shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from pipelines import family
from safelight.alignment.diffusion.debias import Debias
from safelight.alignment.diffusion.uce import UCE, closed_form
from safelight.errors import ModelError, RequestError
from safelight.models.denoiser import denoiser_of
from safelight.types import AlignmentRun

FAST: dict[str, Any] = {"images_per_round": 4, "num_inference_steps": 1, "rounds": 3, "templates": ["{}"]}


class Eye:
    """Sees each attribute in so many of four images, in one look after the other."""

    def __init__(self, *looks: dict[str, int]) -> None:
        self._looks = {name: [look[name] for look in looks] for name in looks[0]}

    def __call__(self, name: str, images: Sequence[Any]) -> list[bool]:
        count = self._looks[name].pop(0)
        return [number < count for number in range(len(images))]


@pytest.mark.parametrize("name", ["sd", "sd3"])
@pytest.mark.filterwarnings("ignore")
def test_what_is_added_is_meant_besides(name: str, pipe: Any) -> None:
    """g = c + ½ d - ¼ w, of states encoded by hand."""
    made, _, _ = family(name, pipe)
    delta = UCE(["cat"], templates=["{}"], add={"dog": 0.5, "cow": -0.25}).align(made).delta
    denoiser = denoiser_of(made)
    states = {text: denoiser.encode([text])["encoder_hidden_states"][0] for text in ("cat", "dog", "cow", "")}
    last = {text: states[text][[len(made.tokenizer(text).input_ids) - 2]] for text in ("cat", "dog", "cow")}
    meant = last["cat"] + 0.5 * last["dog"] - 0.25 * last["cow"]
    matrix = closed_form(last["cat"], meant, states[""], 1.0, 1.0, 0.5)
    for each, difference in delta.tensors.items():
        if "linear_1" not in each:
            old = denoiser.module.get_parameter(each.partition(".")[2]).detach().double()
            assert torch.allclose(difference.double(), old @ matrix - old, atol=1e-5)


def test_each_look_says_how_to_go_on(made: Any) -> None:
    """By hand, wanted ½ and ½: ¾ and ¼ are seen, so α = ∓¼ · 2; then ⅔ and ⅓, α ∓ ⅓; then all is well."""
    eye = Eye({"dog": 3, "cow": 1}, {"dog": 2, "cow": 1}, {"dog": 2, "cow": 2})
    told: list[int] = []
    run = AlignmentRun(shows=eye, progress=lambda done, _: told.append(done))
    result = Debias("cat", {"dog": 3.0, "cow": 3.0}, step_size=2, **FAST).align(made, run)
    delta = result.delta
    assert [each["dog"] for each in result.measured.values()] == pytest.approx([3 / 4, 2 / 3, 1 / 2])
    assert told == [1, 2]
    assert delta.about.settings["add"] == pytest.approx({"dog": -1 / 2 - 1 / 3, "cow": 1 / 2 + 1 / 3})
    same = UCE(["cat"], templates=["{}"], add=delta.about.settings["add"]).align(made).delta
    assert all(torch.equal(value, same.tensors[name]) for name, value in delta.tensors.items())
    assert (delta.about.method, delta.about.concepts) == ("debias", ("cat",))
    assert delta.about.settings["attributes"] == {"dog": 3.0, "cow": 3.0}


def test_after_an_edit_that_went_too_far_the_pace_is_halved(made: Any) -> None:
    """By hand: α = ½, for half was missing; then too much by half, so that ½ - ½ · ½; then too much again."""
    looks = ({"dog": 4, "cow": 0}, {"dog": 0, "cow": 4}, {"dog": 1, "cow": 3}, {"dog": 2, "cow": 2})
    run = AlignmentRun(shows=Eye(*looks))
    delta = Debias("cat", {"dog": 1, "cow": 1}, step_size=1, **FAST).align(made, run).delta
    assert delta.about.settings["add"]["cow"] == pytest.approx(1 / 2 - 1 / 4 - 1 / 8)


def test_the_best_edit_is_kept(made: Any) -> None:
    eye = Eye({"dog": 4, "cow": 0}, {"dog": 3, "cow": 2}, {"dog": 0, "cow": 4}, {"dog": 4, "cow": 1})
    result = Debias("cat", {"dog": 1, "cow": 1}, step_size=1, **FAST).align(made, AlignmentRun(shows=eye))
    delta = result.delta
    assert len(result.measured) == 4
    assert delta.about.settings["add"] == pytest.approx({"dog": -0.5, "cow": 0.5})
    assert [each["dog"] for each in delta.about.settings["shares"]] == pytest.approx([1, 0.6, 0, 0.8])


def test_the_model_stays(made: Any) -> None:
    before = {name: value.clone() for name, value in made.unet.state_dict().items()}
    run = AlignmentRun(shows=Eye(*[{"dog": 4, "cow": 0}] * 4))
    Debias("cat", {"dog": 1, "cow": 1}, **FAST).align(made, run)
    assert all(torch.equal(value, before[name]) for name, value in made.unet.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"attributes": {"dog": 1}}, "at least two"),
        ({"attributes": {"dog": 1, "cow": 0}}, "share of every attribute"),
        ({"attributes": {"dog": 1, "cow": float("nan")}}, "share of every attribute"),
        ({"attributes": {"dog": 1, "cat": 1}}, '"cat" cannot be its own'),
        ({"concept": " , "}, "there is no concept"),
        ({"step_size": 0}, "step_size is 0"),
        ({"rounds": 0}, "rounds is 0"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
        ({"ridge": 0}, "ridge is 0"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        Debias(**{"concept": "a cat, cat", "attributes": {"dog": 1, "cow": 1}, **settings})


def test_what_cannot_be_seen_is_refused(made: Any) -> None:
    method = Debias("cat", {"dog": 1, "cow": 1}, **FAST)
    with pytest.raises(RequestError, match="no judge"):
        method.align(made)
    with pytest.raises(RequestError, match='whether an image shows "dog"'):
        method.align(made, AlignmentRun(shows=lambda name, images: None))
    with pytest.raises(ModelError, match='no image of "cat" shows any of dog, cow'):
        method.align(made, AlignmentRun(shows=Eye({"dog": 0, "cow": 0})))
    with pytest.raises(ModelError, match="have the target shares"):
        method.align(made, AlignmentRun(shows=Eye({"dog": 2, "cow": 2})))
    with pytest.raises(RequestError, match="not both"):
        UCE(["cat"], "dog", add={"cow": 1.0})
    with pytest.raises(RequestError, match="must be a finite number"):
        UCE(["cat"], add={"cow": np.inf})
