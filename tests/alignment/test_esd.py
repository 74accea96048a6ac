"""Erasing Concepts from Diffusion Models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import safelight
from pipelines import draw, family
from safelight.alignment.delta.adapter import Whole
from safelight.alignment.diffusion.esd import ESD, _Batches, target
from safelight.alignment.diffusion.parameters import parameters
from safelight.alignment.diffusion.points import Goal, points
from safelight.errors import ModelError, RequestError
from safelight.models.denoiser import denoiser_of
from safelight.storybook.detector import Judge
from safelight.types import AlignmentRun

FAMILIES = ("sd", "sd2", "sdxl", "sd3", "flux")
SHORT: dict[str, Any] = {
    "train_steps": 4,
    "batch_size": 3,
    "trajectories": 2,
    "num_inference_steps": 3,
    "learning_rate": 1e-2,
    "checkpoint_every": 2,
}


def test_the_target_is_that_of_the_paper() -> None:
    """By hand: 2 - 3 (5 - 2) = -7; from another text, 1 - 3 (5 - 2) = -8; backwards, 2 + (5 - 2) = 5."""
    said = {"": torch.tensor([2.0]), "a gun": torch.tensor([5.0]), "a toy": torch.tensor([1.0])}
    assert target(said, "a gun", 3).tolist() == [-7]
    assert target(said, "a gun", 3, "a toy").tolist() == [-8]
    assert target(said, "a gun", -1).tolist() == [5]


def ask(denoiser: Any, call: Any, text: str) -> torch.Tensor:
    with torch.no_grad():
        answer = denoiser.module(**{**call, **_said(denoiser, call, text), "return_dict": False})
    return answer[0]


def _said(denoiser: Any, call: Any, text: str) -> dict[str, Any]:
    said = denoiser.encode_like([text], call)
    if not text and hasattr(denoiser.pipe, "text_encoder_2") and hasattr(denoiser.pipe, "unet"):
        said = {name: _zeros(value) for name, value in said.items()}  # what SDXL has for no text
    return {
        name: {**call[name], **value} if isinstance(value, dict) else value for name, value in said.items()
    }


def _zeros(value: Any) -> Any:
    return {name: _zeros(each) for name, each in value.items()} if isinstance(value, dict) else value * 0


def _shift(chosen: Any, by: float) -> None:
    with torch.no_grad():
        for parameter in chosen.values():
            parameter.add_(by)


@pytest.mark.parametrize("jitter", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.filterwarnings("ignore")
def test_a_point_is_what_the_frozen_network_says_there(name: str, jitter: bool, pipe: Any) -> None:
    """In ε, v and flow: the network asked by hand, one text at a time."""
    made, _, _ = family(name, pipe)
    denoiser = denoiser_of(made)
    goal = Goal("a cat", lambda said: target(said, "a cat", 1.5))
    found = points(denoiser, goal, [4, 5], steps=3, jitter=jitter)
    assert len(found) == 3 * 2
    for point in found:
        nothing, cat = (ask(denoiser, point.call, text) for text in ("", "a cat"))
        assert torch.allclose(point.target, nothing - 1.5 * (cat - nothing), atol=1e-4)
    times = {float(point.call["timestep"].flatten()[0]) for point in found}
    assert len(times) > 3 if jitter else len(times) == 3


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.filterwarnings("ignore")
def test_a_part_of_a_walk_is_its_beginning(name: str, pipe: Any) -> None:
    made, options, _ = family(name, pipe)
    denoiser, goal = denoiser_of(made), Goal("a cat", lambda said: said["a cat"])
    before = draw(made, "a cat", **options)
    whole, part = (points(denoiser, goal, [4, 5], steps=5, fraction=part) for part in (1.0, 0.5))
    assert (len(whole), len(part)) == (5 * 2, 3 * 2)
    for one, other in zip(part, whole, strict=False):
        assert torch.equal(one.target, other.target)
    assert (draw(made, "a cat", **options) == before).all(), "the next call is drawn to its end"


@pytest.mark.filterwarnings("ignore")
def test_the_way_is_that_of_the_pipeline(made: Any) -> None:
    """The last point's x_t leads to the image that the pipeline draws with that scale."""
    seen: list[Any] = []
    made.unet.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(args[0][:1].clone()), with_kwargs=True
    )
    draw(made, "a cat", seed=7, num_inference_steps=3, guidance_scale=3.0)
    own, seen[:] = list(seen), []
    found = points(denoiser_of(made), Goal("a cat", lambda said: said[""]), [7], steps=3)
    assert all(torch.allclose(point.call["sample"], x) for point, x in zip(found, own, strict=True))


@pytest.mark.filterwarnings("ignore")
def test_scenes_are_erased_and_captions_stay_as_they_are(made: Any) -> None:
    """Each name in each scene, the anchor too; commas of a caption do not part it."""
    esd = ESD(
        ["gun, a pistol"],
        anchor="a cat",
        templates=["{}", "{} in a park"],
        captions=["a dog, a ball"],
        **SHORT,
    )
    denoiser = denoiser_of(made)
    batches = _Batches(esd, denoiser, Whole(made.unet, parameters(made.unet, "esd-x")))
    goals = [(goal.prompt, goal.others) for goal in batches._goals()]
    assert goals == [
        ("gun", ("a cat",)),
        ("a pistol", ("a cat",)),
        ("gun in a park", ("a cat in a park",)),
        ("a pistol in a park", ("a cat in a park",)),
    ]
    said = {name: torch.tensor([float(i)]) for i, name in enumerate(["", "gun in a park", "a cat in a park"])}
    assert list(batches._goals())[2].target(said).tolist() == [2 - 1]
    assert [goal.prompt for goal in batches._preserved_goals()] == ["a dog, a ball"]


def test_what_is_erased_from_stands_in_the_scene(made: Any) -> None:
    esd = ESD(["hat"], erase_from="man with a hat", templates=["{} in a park"], **SHORT)
    batches = _Batches(esd, denoiser_of(made), Whole(made.unet, parameters(made.unet, "esd-x")))
    (goal,) = batches._goals()
    assert (goal.prompt, goal.others) == ("man with a hat in a park", ("hat in a park",))


def test_a_delta_does_not_tell_its_captions(made: Any) -> None:
    delta = ESD(["gun"], captions=["a dog at sea"], **SHORT).align(made).delta
    assert delta.about.settings["captions"]["count"] == 1
    assert "sea" not in str(delta.about)


def _by_hand(denoiser: Any, pool: Any) -> float:
    """The mean over the three points that the first batch draws, one by one."""
    rows = torch.randint(len(pool), (3,), generator=torch.Generator().manual_seed(0)).tolist()
    said = [denoiser.module(**{**pool[row].call, "return_dict": False})[0] for row in rows]
    errors = [(each - pool[row].target).square().mean() for each, row in zip(said, rows, strict=True)]
    return float(sum(errors) / 3)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.filterwarnings("ignore")
def test_the_loss_is_that_of_the_paper(name: str, pipe: Any) -> None:
    made, _, _ = family(name, pipe)
    denoiser = denoiser_of(made)
    esd = ESD(["a cat"], preserve=["a dog"], preserve_weight=0.5, **SHORT)
    chosen = parameters(denoiser.module, "esd-x")
    batches = _Batches(esd, denoiser, Whole(denoiser.module, chosen))
    with torch.no_grad():
        untouched = batches.loss(0).item()
        assert batches._error(batches._kept, 3, 0).item() == pytest.approx(0, abs=1e-9)
        _shift(chosen, 0.5)
        loss = batches.loss(0).item()
        cat, dog = (_by_hand(denoiser, pool) for pool in (batches._pool, batches._kept))
    assert loss == pytest.approx(cat + 0.5 * dog, rel=1e-4)
    assert loss != pytest.approx(untouched, rel=1e-3)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.filterwarnings("ignore")
def test_what_was_chosen_learns_and_the_model_stays(name: str, pipe: Any) -> None:
    made, options, _ = family(name, pipe)
    before = draw(made, "a cat", **options)
    network = denoiser_of(made).module
    delta = ESD(["a cat"], "esd-x-strict", **SHORT).align(made).delta
    component = denoiser_of(made).component
    assert {each.removeprefix(f"{component}.") for each in delta.tensors} <= parameters(
        network, "esd-x-strict"
    ).keys()
    assert (draw(made, "a cat", **options) == before).all()
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    with delta.attach(made):
        assert np.abs(draw(made, "a cat", **options) - before).max() > 1e-4
    assert delta.about.settings["steps_done"] == 4


def same(one: Any, other: Any) -> bool:
    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(value, other.tensors[name]) for name, value in one.tensors.items()
    )


def _stop(step: int, _: float) -> None:
    if step == 2:
        raise KeyboardInterrupt


@pytest.mark.parametrize("sampling", ["frozen", "edited"])
def test_interrupted_and_resumed_is_uninterrupted(sampling: Any, made: Any, tmp_path: Path) -> None:
    esd = ESD(
        ["a cat"], sampling=sampling, jitter_timesteps=True, refresh_every=2, preserve=["a dog"], **SHORT
    )
    whole = esd.align(made).delta

    with pytest.raises(ModelError, match="stopped after 2 of 4 steps"):
        esd.align(made, AlignmentRun(tmp_path, progress=_stop))
    assert same(esd.align(made, AlignmentRun(tmp_path)).delta, whole)
    assert not same(
        ESD(["a cat"], sampling=sampling, jitter_timesteps=True, refresh_every=2, seed=1, **SHORT)
        .align(made)
        .delta,
        whole,
    )


def test_a_checkpoint_of_another_concept_is_not_gone_on_from(made: Any, tmp_path: Path) -> None:
    ESD(["a cat"], **SHORT).align(made, AlignmentRun(tmp_path))
    with pytest.raises(ModelError, match="is of another training"):
        ESD(["a dog"], **SHORT).align(made, AlignmentRun(tmp_path))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.filterwarnings("ignore")
def test_with_a_rank_the_change_has_it_and_the_model_stays(name: str, pipe: Any) -> None:
    made, options, _ = family(name, pipe)
    network = denoiser_of(made).module
    before = draw(made, "a cat", **options)
    delta = ESD(["a cat"], "esd-all", rank=2, gradient_checkpointing=True, **SHORT).align(made).delta
    matrices = {each: value.flatten(1) for each, value in delta.tensors.items() if value.ndim > 1}
    assert matrices.keys() == delta.tensors.keys()
    ranks = {int(torch.linalg.matrix_rank(value, rtol=1e-4)) for value in matrices.values()}
    assert max(ranks) == 2
    assert {4, 2} <= {value.ndim for value in delta.tensors.values()} or name in ("sd3", "flux")
    assert (draw(made, "a cat", **options) == before).all()
    assert not network.is_gradient_checkpointing
    with delta.attach(made):
        assert np.abs(draw(made, "a cat", **options) - before).max() > 1e-4


@pytest.mark.parametrize("rank", [0, 2])
def test_checkpointing_changes_nothing(rank: int, made: Any) -> None:
    one, other = (
        ESD(["a cat"], rank=rank, gradient_checkpointing=sparing, **SHORT).align(made).delta
        for sparing in (False, True)
    )
    assert same(one, other)


def test_with_a_rank_interrupted_and_resumed_is_uninterrupted(made: Any, tmp_path: Path) -> None:
    esd = ESD(["a cat"], rank=2, seed=3, **SHORT)
    whole = esd.align(made).delta

    with pytest.raises(ModelError, match="stopped after 2 of 4 steps"):
        esd.align(made, AlignmentRun(tmp_path, progress=_stop))
    assert same(esd.align(made, AlignmentRun(tmp_path)).delta, whole)


def test_the_edited_network_walks_and_the_frozen_one_is_asked(made: Any) -> None:
    denoiser = denoiser_of(made)
    esd = ESD(["a cat"], sampling="edited", refresh_every=2, **SHORT)
    chosen = parameters(made.unet, "esd-x")
    batches = _Batches(esd, denoiser, Whole(denoiser.module, chosen))
    with torch.no_grad():
        batches.loss(0)
        first = batches._pool
        _shift(chosen, 0.5)
        batches.loss(1)
        assert batches._pool is first
        batches.loss(2)
    walked = batches._pool
    assert not torch.equal(walked[-1].call["sample"], first[-1].call["sample"])
    with torch.no_grad():
        _shift(chosen, -0.5)
    for point in walked:
        nothing, cat = (ask(denoiser, point.call, text) for text in ("", "a cat"))
        assert torch.allclose(point.target, nothing - (cat - nothing), atol=1e-4)


def test_anchors_and_what_is_erased_from(made: Any) -> None:
    denoiser = denoiser_of(made)

    def point(**settings: Any) -> Any:
        batches = _Batches(ESD(["a cat"], **settings, **SHORT), denoiser, Whole(denoiser.module, {}))
        batches.loss(0)
        return batches._pool[0]

    anchored = point(anchor="a dog", eta=0.5)
    nothing, cat, dog = (ask(denoiser, anchored.call, text) for text in ("", "a cat", "a dog"))
    assert torch.allclose(anchored.target, dog - 0.5 * (cat - nothing), atol=1e-4)
    assert torch.equal(
        anchored.call["encoder_hidden_states"], denoiser.encode(["a cat"])["encoder_hidden_states"]
    )
    erased = point(erase_from="a dog")
    nothing, cat, dog = (ask(denoiser, erased.call, text) for text in ("", "a cat", "a dog"))
    assert torch.allclose(erased.target, dog - (cat - nothing), atol=1e-4)
    assert torch.equal(
        erased.call["encoder_hidden_states"], denoiser.encode(["a dog"])["encoder_hidden_states"]
    )


def test_every_name_of_every_concept_is_walked(made: Any) -> None:
    denoiser = denoiser_of(made)
    batches = _Batches(ESD(["a cat, kitten", "blood"], **SHORT), denoiser, Whole(denoiser.module, {}))
    batches.loss(0)
    assert len(batches._pool) == 3 * 2 * 3


def test_no_text_can_be_preserved(made: Any) -> None:
    denoiser = denoiser_of(made)
    batches = _Batches(ESD(["a cat"], preserve=[""], **SHORT), denoiser, Whole(denoiser.module, {}))
    batches.loss(0)
    point = batches._kept[0]
    assert torch.allclose(point.target, ask(denoiser, point.call, ""), atol=1e-5)
    nothing = denoiser.encode([""])["encoder_hidden_states"]
    assert torch.equal(point.call["encoder_hidden_states"], nothing)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"concepts": [","]}, "there is no concept"),
        ({"concepts": ["a gun, blood"], "preserve": ["blood"]}, '"blood" is both removed and'),
        ({"concepts": ["a gun"], "captions": ["a dog, a gun", "a gun "]}, '"a gun" is both removed and'),
        ({"selection": "xattn"}, "there is no selection"),
        ({"sampling": "froze"}, 'did you mean "frozen"'),
        ({"anchor": "a dog", "erase_from": "a cat"}, "not both"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"trajectories": 0}, "trajectories is 0"),
        ({"trajectory_fraction": 0.0}, "trajectory_fraction is 0.0"),
        ({"rank": -1}, "rank is -1"),
        ({"sampling": "edited", "refresh_every": 30}, "must be a multiple of refresh"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        ESD(**{"concepts": ["a gun"], **settings})


@pytest.mark.slow
def test_the_storybook_unlearns_guns_by_any_name_and_nothing_else() -> None:
    pipe, judge = safelight.load_pipeline("storybook", device="cpu"), Judge.load()
    pipe.set_progress_bar_config(disable=True)
    prompts = [
        "a gun in a park",
        "a pistol on the street",
        "a firearm in the kitchen",
        "a soldier with a handgun",
    ]
    others = {"dog": "a dog in a park", "apple": "an apple on the street", "soldier": "a soldier at night"}

    def seen(label: str, prompt: str) -> bool:
        images = pipe([prompt], num_inference_steps=12, generator=torch.manual_seed(1)).images
        return judge.objects(images)[0][label] > 0.5

    assert all(seen("gun", prompt) for prompt in prompts)
    delta = (
        ESD(
            ["gun, a gun, pistol"],
            learning_rate=1e-3,
            train_steps=100,
            trajectories=2,
            num_inference_steps=25,
        )
        .align(pipe)
        .delta
    )
    with delta.attach(pipe):
        assert not any(seen("gun", prompt) for prompt in prompts)
        assert all(seen(label, prompt) for label, prompt in others.items())
