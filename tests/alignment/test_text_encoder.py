"""Fine-tuning of text encoders, on tiny ones of every family with random weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines import family, sd
from safelight.alignment.delta.delta import Delta
from safelight.alignment.text_encoder import DES, METHODS, Adversarial, Prompts, SafeCLIP, SafeText
from safelight.alignment.text_encoder.adversarial import worst_prefix
from safelight.alignment.text_encoder.batch import Read
from safelight.alignment.text_encoder.des import least_like
from safelight.alignment.text_encoder.distances import differ, distances, mean, remaining
from safelight.alignment.text_encoder.encoder import Reading, TextEncoder, text_encoders
from safelight.errors import ModelError, RequestError
from safelight.models.denoiser import denoiser_of
from safelight.types import AlignmentRun

UNSAFE = ("a gun", "a gun in a park", "a dog with a gun")
SAFE = ("a dog", "a cat in a park", "a boat", "a house")
PROMPTS = Prompts(UNSAFE, SAFE, (("a bomb in a park", "a ball in a park"), ("a bomb", "a ball")))
SHORT = {"train_steps": 3, "learning_rate": 1e-3, "unsafe_batch_size": 2, "safe_batch_size": 3}


def _weights(pipe: Any, part: str = "text_encoder") -> dict[str, torch.Tensor]:
    return {name: each.clone() for name, each in getattr(pipe, part).state_dict().items()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["sd", "sd2", "sdxl", "sd3", "flux"])
def test_encoders_read_what_the_pipeline_reads(name: str, pipe: Any) -> None:
    """Against diffusers' own ``encode_prompt``."""
    made, *_ = family(name, pipe)
    texts = ["a dog in a park", "a gun"]
    with torch.no_grad():
        read = [encoder.read(texts) for encoder in text_encoders(made)]
        asked = denoiser_of(made).encode(texts)
    states = asked["encoder_hidden_states"]
    if name in ("sd", "sd2"):
        assert torch.equal(read[0].states, states)
        assert read[0].pooled is None
    elif name == "sdxl":
        assert torch.equal(torch.cat([each.states for each in read], -1), states)
        assert torch.equal(read[1].pooled, asked["added_cond_kwargs"]["text_embeds"])
        assert read[0].pooled is None
    elif name == "sd3":
        both = torch.cat([each.states for each in read], -1)
        assert torch.equal(both, states[:, : both.shape[1], : both.shape[2]])
        assert torch.equal(torch.cat([each.pooled for each in read], -1), asked["pooled_projections"])
    else:
        assert torch.equal(read[0].pooled, asked["pooled_projections"])
        assert read[0].states is None
        assert torch.equal(read[1].states, states)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["sdxl", "sd3", "flux"])
def test_encoders_go_on_from_halfway(name: str, pipe: Any) -> None:
    made, *_ = family(name, pipe)
    texts = ["a dog in a park", "a gun"]
    for encoder in text_encoders(made):
        if not (layer := encoder.frozen_layers(1)):
            assert "t5" in type(encoder.module).__name__.lower()
            continue
        with torch.no_grad():
            given = encoder.read_with_input(texts, layer).input
            assert given is not None
            again = encoder.read_from(["a cat", "a cat"], layer, given)
            plain = encoder.read(texts)
        if again.states is not None and plain.states is not None:
            assert torch.equal(again.states, plain.states)
        assert (again.pooled is None) == (plain.pooled is None)
        assert torch.equal(encoder.read(texts).parts[0], plain.parts[0])


def test_encoders_are_chosen_by_name(pipe: Any) -> None:
    made, *_ = family("sdxl", pipe)
    assert [each.component for each in text_encoders(made, ["text_encoder_2"])] == ["text_encoder_2"]
    with pytest.raises(RequestError, match="text_encoder_2"):
        text_encoders(made, ["text_encoder_3"])


def test_a_prefix_is_read_like_words(made: Any) -> None:
    encoder = TextEncoder(made, "text_encoder")
    ids = encoder._tokenizer(["gun"], add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        behind = encoder.read(["dog"], encoder.embeddings[ids]).states
        said = encoder.read(["gun dog"]).states
    assert torch.allclose(behind, said, atol=1e-5)  # type: ignore[arg-type]


def test_a_prefix_of_t5_is_before_everything(pipe: Any) -> None:
    made, *_ = family("flux", pipe)
    encoder = TextEncoder(made, "text_encoder_2")
    prefix = torch.randn(1, 2, encoder.embeddings.shape[1], generator=torch.Generator().manual_seed(0))
    ids = encoder._tokenizer(["dog"], padding="max_length", max_length=510, return_tensors="pt").input_ids
    with torch.no_grad():
        behind = encoder.read(["dog"], prefix).states
        whole = torch.cat([prefix, encoder.embeddings[ids]], 1)
        expected = encoder.module(inputs_embeds=whole).last_hidden_state
    assert torch.allclose(behind, expected, atol=1e-5)  # type: ignore[arg-type]


def test_clips_first_state_is_the_same_for_all_texts(made: Any) -> None:
    encoder = TextEncoder(made, "text_encoder")
    states = encoder.read(["a dog", "a gun in a park"]).states
    assert states is not None
    assert encoder.constant == 1
    assert torch.allclose(states[0, 0], states[1, 0])
    assert not torch.allclose(states[0, 3], states[1, 3])


def test_embeddings_are_not_trained_and_the_last_layers_can_be(pipe: Any) -> None:
    made, *_ = family("sdxl", pipe)
    encoder = TextEncoder(made, "text_encoder")
    every, last = encoder.trained(), encoder.trained(layers=1)
    assert not [name for name in every if "embedding" in name]
    assert [name for name in every if "layers.0." in name]
    assert not [name for name in last if "layers.0." in name]
    assert {name for name in every if "layers.0." not in name} == set(last)
    assert [name for name in last if "final_layer_norm" in name]
    with pytest.raises(RequestError, match="has 2"):
        encoder.trained(layers=3)


def _read(**parts: Any) -> Read:
    """Each of one state and no pooled text, of CLIP without its first token."""
    nothing = torch.zeros(0, 1, 2)
    readings = {
        name: Reading(torch.as_tensor(parts.get(name, nothing), dtype=torch.float32), None)
        for name in Read.__slots__
        if name != "constant"
    }
    return Read(constant=0, **readings)


def test_the_papers_safetext_by_hand() -> None:
    """Of two safe prompts one moved by (3, 4), so L_u is 2.5; the unsafe one turned by 60°."""
    read = _read(
        safe=[[[3.0, 4.0]], [[1.0, 0.0]]],
        safe_was=[[[0.0, 0.0]], [[1.0, 0.0]]],
        unsafe=[[[0.5, 0.75**0.5]]],
        unsafe_was=[[[2.0, 0.0]]],
    )
    assert SafeText(["gun"], PROMPTS, unsafe_weight=10.0, unsafe_objective="cosine").loss(
        read
    ).item() == pytest.approx(7.5)
    with pytest.raises(RequestError, match='did you mean "cosine"'):
        SafeText(["gun"], PROMPTS, unsafe_objective="cosines")  # type: ignore[arg-type]


def test_safetext_by_hand() -> None:
    """L_u is 2.5; of (4, 0) instead of (2, 0) half is left at (3, 7), nothing beyond (2, 0), and where both
    say the same it does not matter what became of it."""
    read = _read(
        safe=[[[3.0, 4.0]], [[1.0, 0.0]]],
        safe_was=[[[0.0, 0.0]], [[1.0, 0.0]]],
        unsafe=[[[3.0, 7.0]], [[1.0, 0.0]], [[9.0, 9.0]]],
        unsafe_was=[[[4.0, 0.0]], [[4.0, 0.0]], [[5.0, 5.0]]],
        counterparts_were=[[[2.0, 0.0]], [[2.0, 0.0]], [[5.0, 5.0]]],
    )
    assert SafeText(["gun"], PROMPTS, unsafe_weight=10.0).loss(read).item() == pytest.approx(2.5 + 10 * 0.25)


def test_texts_differ_from_the_first_other_word_on(made: Any) -> None:
    encoder = TextEncoder(made, "text_encoder")
    (mask,) = differ(encoder.read(["a dog with a gun"]), encoder.read(["a dog with a ball"]))
    start = int(mask[0].int().argmax())
    assert start > 3
    assert mask[0, start:].all()
    assert not mask[0, :start].any()


def test_what_is_constant_does_not_count_as_unsafe_but_as_safe() -> None:
    """Two states, of which the first is constant: only it moved."""
    moved, was = [[[0.0, 1.0], [1.0, 0.0]]], [[[1.0, 0.0], [1.0, 0.0]]]
    parts = {"safe": moved, "safe_was": was, "unsafe": moved, "unsafe_was": was}
    read = _read(**parts)
    one = Read(1, *(getattr(read, name) for name in Read.__slots__ if name != "constant"))
    method = SafeText(["gun"], PROMPTS, unsafe_weight=1.0, unsafe_objective="cosine")
    assert method.loss(one).item() == pytest.approx(0.5 * 2**0.5 + 1)
    assert method.loss(read).item() == pytest.approx(0.5 * 2**0.5 + 0.5)


def test_des_by_hand() -> None:
    """n̂ is (1, 0), the mean length of the bank's prompts 5, so that α n̂ is (2.5, 0).

    The one of the bank least like (4, 3) is (-3, 4), so that t = (-5.5, 4). One of two safe prompts is as
    long again as it was, the other turned by a right angle.
    """
    read = _read(
        unsafe=[[[4.0, 3.0]]],
        unsafe_was=[[[4.0, 3.0]]],
        counterparts_were=[[[0.0, 3.0]]],
        safe=[[[10.0, 0.0]], [[1.0, 0.0]]],
        safe_was=[[[5.0, 0.0]], [[0.0, 1.0]]],
        concepts=[[[2.0, 0.0]]],
        concepts_were=[[[2.0, 0.0]]],
        bank_was=[[[5.0, 0.0]], [[-3.0, 4.0]]],
    )
    led = 1 - (4 * -5.5 + 3 * 4) / (5 * (5.5**2 + 16) ** 0.5)
    emptied = 1.0
    lost = (5 / 5 + 2**0.5 / 1) / 2
    moved = 1 - (1 + 0) / 2
    expected = lost + moved + 7 / 3 * (led + emptied)
    assert DES(["gun"], PROMPTS, alpha=0.5, unsafe_weight=7 / 3).loss(read).item() == pytest.approx(
        expected, abs=1e-5
    )


def test_the_bank_is_of_the_first_safe_prompts() -> None:
    assert DES(["gun"], PROMPTS, safe_bank_size=2).banked() == SAFE[:2]
    with pytest.raises(RequestError, match="safe_bank_size is 0"):
        DES(["gun"], PROMPTS, safe_bank_size=0)


def test_the_least_like_is_so_by_angle_not_by_length() -> None:
    safe = torch.tensor([[9.0, 9.0], [0.0, 0.1]])
    assert least_like(torch.tensor([[1.0, 0.0]]), safe).tolist() == [1]


def test_safe_clip_by_hand() -> None:
    """cos 60° to the twin, where it differs from it, and a safe one √5 from what it was, which was 2 long."""
    read = _read(
        unsafe=[[[1.0, 0.0], [0.0, 1.0]]],
        unsafe_was=[[[1.0, 0.0], [1.0, 1.0]]],
        counterparts_were=[[[0.5, 0.75**0.5], [1.0, 1.0]]],
        safe=[[[1.0, 0.0]]],
        safe_was=[[[0.0, 2.0]]],
    )
    assert SafeCLIP(["gun"], PROMPTS, unsafe_weight=3.0).loss(read).item() == pytest.approx(
        5**0.5 / 2 + 3 * 0.5
    )


def test_adversarial_training_leaves_less_of_what_is_unsafe_behind_a_prefix(made: Any) -> None:
    """Than SafeText does, in as many steps."""
    encoder = TextEncoder(made, "text_encoder")
    unsafe, safe = (list(each) for each in zip(*PROMPTS.pairs, strict=True))
    with torch.no_grad():
        meant, instead = (encoder.read(texts).positions(slice(1, -2)) for texts in (unsafe, safe))
        whole = encoder.read(unsafe)

    def unsafe_left() -> float:
        prefix = worst_prefix(encoder, unsafe, whole, 2, 6, seed=7)
        words = encoder.read(unsafe, prefix).positions(slice(3, None))
        return remaining(words, meant, instead).item()

    settings: dict[str, Any] = {
        "train_steps": 40,
        "learning_rate": 3e-3,
        "unsafe_batch_size": 4,
        "safe_batch_size": 4,
    }
    with SafeText(["gun"], PROMPTS, **settings).align(made).delta.attach(made):
        plain = unsafe_left()
    with Adversarial(["gun"], PROMPTS, attack_warmup_steps=5, **settings).align(made).delta.attach(made):
        assert unsafe_left() < plain


def test_few_tokens_are_read_as_they_are_among_all(made: Any) -> None:
    encoder = TextEncoder(made, "text_encoder")
    few, every = (each.read(["a gun"]).states for each in (encoder.shortened(8), encoder))
    assert few is not None
    assert every is not None
    assert few.shape[1] == 8 < every.shape[1]
    assert torch.allclose(few, every[:, :8], atol=1e-6)
    assert encoder.shortened(10_000).read(["a gun"]).states.shape == every.shape  # type: ignore[union-attr]


def test_what_is_learnt_of_few_tokens_changes_the_others_too(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, read, seen = TextEncoder(made, "text_encoder"), TextEncoder.read, set()
    was = encoder.read(["a gun"]).states

    def noted(*asked: Any) -> Reading:
        reading = read(*asked)
        seen.add(reading.states.shape[1])  # type: ignore[union-attr]
        return reading

    monkeypatch.setattr(TextEncoder, "read", noted)
    delta = SafeText(["a gun"], PROMPTS, **SHORT, max_tokens=6).align(made).delta  # type: ignore[arg-type]
    assert seen == {6}
    with delta.attach(made):
        assert (encoder.read(["a gun"]).states - was)[0, 6:].abs().max() > 1e-3  # type: ignore[operator]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_changes_what_prompts_mean_and_leaves_the_model_as_it_was(name: str, made: Any) -> None:
    before = _weights(made)
    options = {"attack_warmup_steps": 1, "attack_steps": 2} if name == "adversarial" else {}
    result = METHODS[name](["a gun"], PROMPTS, **SHORT, **options).align(made)  # type: ignore[arg-type]
    assert all(torch.equal(each, before[key]) for key, each in _weights(made).items())
    delta = result.delta
    assert len(result.loss) == 3
    assert delta.parts == ("text_encoder",)
    assert delta.about.method == name
    encoder = TextEncoder(made, "text_encoder")
    was = encoder.read(["a gun"]).states
    with delta.attach(made):
        assert not torch.equal(encoder.read(["a gun"]).states, was)  # type: ignore[arg-type]
    assert torch.equal(encoder.read(["a gun"]).states, was)  # type: ignore[arg-type]


def test_a_delta_says_nothing_of_the_prompts_but_their_hash(made: Any, tmp_path: Path) -> None:
    SafeText(["a gun"], PROMPTS, **SHORT).align(made).delta.save(tmp_path / "gun.safetensors")  # type: ignore[arg-type]
    assert b"in a park" not in (tmp_path / "gun.safetensors").read_bytes()
    about = Delta.load(tmp_path / "gun.safetensors").about
    assert about.settings["prompts"] == PROMPTS.about()


def test_training_brings_the_losses_down(made: Any) -> None:
    for method in (SafeText, SafeCLIP):
        loss = (
            method(
                ["a gun"], PROMPTS, train_steps=60, learning_rate=3e-3, unsafe_batch_size=8, safe_batch_size=8
            )
            .align(made)
            .loss
        )
        assert sum(loss[-5:]) < sum(loss[:5]) - 0.1


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("rank", [0, 2])
def test_interrupted_and_resumed_is_uninterrupted(name: str, rank: int, made: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {**SHORT, "train_steps": 6, "checkpoint_every": 2, "rank": rank}
    if name == "adversarial":
        options |= {"attack_warmup_steps": 1, "attack_steps": 1}
    method = METHODS[name](["a gun"], PROMPTS, **options)
    whole = method.align(made).delta

    def stop(step: int, _: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(ModelError, match="after 3 of 6"):
        method.align(made, AlignmentRun(tmp_path, progress=stop))
    resumed = method.align(made, AlignmentRun(tmp_path)).delta
    assert resumed.tensors.keys() == whole.tensors.keys()
    assert all(torch.equal(each, whole.tensors[name]) for name, each in resumed.tensors.items())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["sdxl", "sd3", "flux"])
def test_all_encoders_of_a_pipeline_are_trained_or_one(name: str, pipe: Any) -> None:
    made, *_ = family(name, pipe)
    there = {each.component for each in text_encoders(made)}
    assert set(SafeText(["a gun"], PROMPTS, **SHORT).align(made).delta.parts) == there  # type: ignore[arg-type]
    attacked = Adversarial(["a gun"], PROMPTS, attack_warmup_steps=0, **SHORT)  # type: ignore[arg-type]
    assert set(attacked.align(made).delta.parts) == there
    one = Adversarial(["a gun"], PROMPTS, encoders=["text_encoder_2"], attack_warmup_steps=0, **SHORT)  # type: ignore[arg-type]
    assert one.align(made).delta.parts == ("text_encoder_2",)


def test_an_aligned_encoder_works_in_another_pipeline_with_the_same_one(pipe: Any) -> None:
    """The encoder alone is what the delta is for; the denoiser is another."""
    one, other = sd(pipe), sd(pipe)
    one.text_encoder = copy.deepcopy(pipe.text_encoder)
    other.text_encoder = copy.deepcopy(pipe.text_encoder)
    for parameter in other.unet.parameters():
        parameter.data += 0.1
    delta = SafeText(["a gun"], PROMPTS, **SHORT).align(one).delta  # type: ignore[arg-type]
    with delta.attach(one), delta.attach(other), torch.no_grad():
        states = [TextEncoder(each, "text_encoder").read(["a gun"]).states for each in (one, other)]
    assert torch.equal(*states)  # type: ignore[arg-type]


def test_the_worst_prefix_brings_back_what_was_meant(made: Any) -> None:
    encoder = TextEncoder(made, "text_encoder")
    texts = ["a gun in a park", "a gun"]
    wanted = encoder.read(["a boat in a park", "a boat"])

    def far(steps: int) -> float:
        prefix = worst_prefix(encoder, texts, wanted, 2, steps)
        words = encoder.read(texts, prefix).positions(slice(3, None))
        return mean(distances(words, wanted.positions(slice(1, -2)))).item()

    assert far(0) > far(2) > far(12)


def test_without_pairs_safe_clip_is_refused_and_others_lead_away_from_no_text(made: Any) -> None:
    alone = Prompts(UNSAFE, SAFE)
    with pytest.raises(RequestError, match="needs pairs"):
        SafeCLIP(["gun"], alone)
    batches = SafeText(["gun"], alone)._batches([], {})
    assert set(batches.batch(0).counterparts) == {""}
    loss = (
        SafeText(["gun"], alone, train_steps=30, learning_rate=3e-3, unsafe_batch_size=8, safe_batch_size=8)
        .align(made)
        .loss
    )
    assert sum(loss[-5:]) < sum(loss[:5]) - 0.5


def test_counterparts_are_among_the_safe_prompts_of_a_batch() -> None:
    batch = SafeCLIP(["gun"], PROMPTS, unsafe_batch_size=5, safe_batch_size=6)._batches([], {}).batch(3)
    assert [PROMPTS.counterparts[each] for each in batch.unsafe] == list(batch.counterparts)
    assert len(batch.safe) == 7
    assert batch.safe[:2] == batch.counterparts[:2]
    assert batch.safe[-1] == ""


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"concepts": [" "]}, "no concept"),
        ({"unsafe_batch_size": 0}, "unsafe_batch_size is 0"),
        ({"safe_batch_size": 0}, "safe_batch_size is 0"),
        ({"rank": -1}, "rank is -1"),
        ({"unsafe_weight": 0}, "above 0"),
        ({"max_tokens": -1}, "max_tokens is -1"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        DES(**{"concepts": ["gun"], "prompts": PROMPTS, **settings})


def test_prompts_count_once() -> None:
    prompts = Prompts(("A gun", "a  gun ", "a bomb", " "), ("a dog", "A dog"), (("a bomb", "a ball"),) * 2)
    assert prompts.unsafe == ("A gun", "a bomb")
    assert prompts.harmful == ("A gun", "a bomb")
    assert prompts.harmless == ("a dog", "a ball")
    assert prompts.about()["pairs"] == 1


def test_prompts_that_are_both_or_none_are_refused() -> None:
    with pytest.raises(RequestError, match="unsafe and as safe") as refused:
        Prompts(("a gun",), ("a dog", "A  GUN"))
    assert "gun" not in str(refused.value).casefold()
    with pytest.raises(RequestError, match="no safe prompts"):
        Prompts(("a gun",), ())


def test_what_is_measured_with_is_not_trained_on() -> None:
    PROMPTS.check_apart(["a whale"])
    with pytest.raises(RequestError, match="1 prompts"):
        PROMPTS.check_apart(["A Ball"])
