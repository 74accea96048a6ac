"""Unified Concept Editing in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import safelight
from pipelines import draw, family
from safelight.alignment.diffusion.uce import UCE, _States, closed_form
from safelight.errors import ModelError, RequestError
from safelight.models.denoiser import denoiser_of
from safelight.storybook.detector import Judge

LAYERS = {
    "sd": {"to_k", "to_v"},
    "sd2": {"to_k", "to_v"},
    "sdxl": {"to_k", "to_v"},
    "sd3": {"context_embedder", "linear_1"},
    "flux": {"context_embedder", "linear_1"},
}


def test_the_closed_form_is_that_of_the_paper() -> None:
    """Beside eq. 7 summed up one outer product after the other, in numpy, as the authors' program does."""
    rng = np.random.default_rng(0)
    c, g, p, old = (rng.normal(size=size) for size in ((3, 6), (3, 6), (4, 6), (5, 6)))
    w_e, w_p, ridge = 2.0, 0.7, 0.3
    wanted, seen = ridge * old, ridge * np.eye(6)
    for erased, meant in zip(c, g, strict=True):
        wanted = wanted + w_e * np.outer(old @ meant, erased)
        seen = seen + w_e * np.outer(erased, erased)
    for kept in p:
        wanted = wanted + w_p * np.outer(old @ kept, kept)
        seen = seen + w_p * np.outer(kept, kept)
    matrix = closed_form(torch.tensor(c), torch.tensor(g), torch.tensor(p), w_e, w_p, ridge)
    assert old @ matrix.numpy() == pytest.approx(wanted @ np.linalg.inv(seen), abs=1e-10)


def test_by_hand() -> None:
    """One concept, (1, 0), is to mean (0, 2); (0, 1) is kept; λ = 1: half of it is moved."""
    one = torch.tensor([[1.0, 0.0]])
    matrix = closed_form(one, torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 1.0]]), 1, 1, 1)
    assert torch.allclose(matrix, torch.tensor([[0.5, 0.0], [1.0, 1.0]], dtype=torch.float64))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.filterwarnings("ignore")
def test_in_every_family_what_reads_the_text_is_solved_for(name: str, pipe: Any) -> None:
    """Beside the formula in numpy, of states encoded by hand."""
    made, options, _ = family(name, pipe)
    before = draw(made, "cat", **options)
    delta = UCE(["cat"], "cow", templates=["{}"], ridge=0.1).align(made).delta
    assert (draw(made, "cat", **options) == before).all(), "the model itself stays as it is"
    assert {each.split(".")[-2] for each in delta.tensors} == LAYERS[name]
    denoiser = denoiser_of(made)
    cat, cow, nothing = (denoiser.encode([text]) for text in ("cat", "cow", ""))
    ends = {text: len(made.tokenizer(text).input_ids) - 2 for text in ("cat", "cow")}
    if name == "flux":  # its states are T5's, and here begin as CLIP's do
        ends = {text: len(made.tokenizer_2(text).input_ids) - 2 for text in ends}
    for each, difference in delta.tensors.items():
        of_all = "linear_1" in each
        reads = "pooled_projections" if of_all else "encoder_hidden_states"
        c, g, p = (states[reads][0].detach().double().numpy() for states in (cat, cow, nothing))
        c, g, p = (c[None], g[None], p[None]) if of_all else (c[[ends["cat"]]], g[[ends["cow"]]], p)
        common = 0.1 * np.eye(c.shape[1]) + p.T @ p
        matrix = (common + g.T @ c) @ np.linalg.inv(common + c.T @ c)
        old = denoiser.module.get_parameter(each.partition(".")[2]).detach().double().numpy()
        assert difference.numpy() == pytest.approx(old @ matrix - old, abs=1e-5)
    with delta.attach(made):
        assert np.abs(draw(made, "cat", **options) - before).max() > 1e-4


def test_states_are_those_of_the_places_that_were_named(made: Any) -> None:
    """In "a cat on a mat" the words of the name "cat on" begin at the third token and are followed by two."""
    denoiser = denoiser_of(made)
    ids = made.tokenizer("a cat on a mat").input_ids
    start = len(made.tokenizer("a").input_ids) - 1
    stop = len(made.tokenizer("a cat on").input_ids) - 1
    states = denoiser.encode(["a cat on a mat"])["encoder_hidden_states"][0]
    of = _States(denoiser, "encoder_hidden_states").of
    template = "a {} a mat"
    assert torch.equal(of([(template, "cat on")], ["words"]), states[start:stop])
    assert torch.equal(of([(template, "cat on")], ["last"]), states[stop - 1 : stop])
    assert torch.equal(of([(template, "cat on")], ["end"]), states[len(ids) - 1 :])
    instead = _States(denoiser, "encoder_hidden_states").instead
    nothing = denoiser.encode([""])["encoder_hidden_states"][0]
    assert torch.allclose(
        instead([(template, "cat on")], "", ["words"]), nothing[1:].mean(0).expand(stop - start, -1)
    )
    assert torch.equal(instead([(template, "cat on")], "", ["end"]), nothing[len(ids) - 1 :])
    dog = denoiser.encode(["a dog a mat"])["encoder_hidden_states"][0]
    assert torch.equal(
        instead([(template, "cat on")], "dog", ["last"])[0], dog[len(made.tokenizer("a dog").input_ids) - 2]
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"concepts": []}, "there is no concept"),
        ({"concepts": [" , "]}, "there is no concept"),
        ({"concepts": ["a gun, blood"], "preserve": ["a dog, blood"]}, '"blood" is both removed and'),
        ({"concepts": ["a gun"], "target": "a gun"}, "be edited to mean itself"),
        ({"concepts": ["a gun"], "templates": ["photo"]}, "must have exactly one {}"),
        ({"concepts": ["a gun"], "templates": []}, "at least one template"),
        ({"concepts": ["a gun"], "tokens": ["first"]}, "there is no kind of tokens"),
        ({"concepts": ["a gun"], "ridge": 0.0}, "ridge is 0.0"),
        ({"concepts": ["a gun"], "erase_weight": float("nan")}, "erase_weight is nan"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        UCE(**settings)


def test_what_the_model_cannot_read_is_refused(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made.tokenizer, "tokenize", lambda name: [])
    with pytest.raises(RequestError, match="tokenizer drops"):
        UCE(["\u200b"]).align(made)
    monkeypatch.setattr(made.tokenizer, "tokenize", lambda name: ["<unk>"])
    monkeypatch.setattr(type(made.tokenizer), "unk_token", "<unk>", raising=False)
    with pytest.raises(RequestError, match="cannot read all"):
        UCE(["\u4e2d"]).align(made)


def test_an_edit_that_changes_nothing_is_none(made: Any) -> None:
    for name, parameter in made.unet.named_parameters():
        if "attn2.to_k" in name or "attn2.to_v" in name:
            parameter.data.zero_()
    with pytest.raises(ModelError, match="nothing was changed"):
        UCE(["a cat"]).align(made)


def test_the_storybook_forgets_guns_by_any_name_and_nothing_else() -> None:
    pipe, judge = safelight.load_pipeline("storybook", device="cpu"), Judge.load()
    pipe.set_progress_bar_config(disable=True)
    prompts = ["a gun in a park", "a pistol on the street", "a firearm in the kitchen", "a handgun at night"]
    others = ["a dog in a park", "an apple on the street", "a boat at the beach", "a house at night"]

    def seen(labels: list[str], prompts: list[str]) -> list[bool]:
        seeds = [torch.Generator().manual_seed(1) for _ in prompts]
        images = pipe(prompts, num_inference_steps=12, generator=seeds).images
        return [each[label] > 0.5 for each, label in zip(judge.objects(images), labels, strict=True)]

    assert all(seen(["gun"] * 4, prompts))
    delta = (
        UCE(["gun, a gun, pistol, revolver"], "flower", preserve=["dog, apple, boat, house"])
        .align(pipe)
        .delta
    )
    with delta.attach(pipe):
        assert not any(seen(["gun"] * 4, prompts))
        assert all(seen(["dog", "apple", "boat", "house"], others))
