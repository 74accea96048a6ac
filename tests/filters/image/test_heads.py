from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPConfig

from safelight.clip import load_clip
from safelight.errors import ModelError
from safelight.filters.image.heads import ConceptHead, SafetyChecker, TrainedHead, load_head

_SIZE, _SPECIAL, _CONCEPTS = 64, 3, 17


class _Given(nn.Module):
    """In place of the vision tower: what it is given is the pooled output."""

    def forward(self, embeddings: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, embeddings


def _checker(folder: Path, tensors: dict[str, torch.Tensor]) -> tuple[SafetyChecker, Any]:
    """Ours and that of diffusers, with the same concepts and thresholds."""
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    vision = {**small, "image_size": 32, "patch_size": 16}
    theirs = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=_SIZE))
    theirs.load_state_dict(tensors, strict=False)
    theirs.vision_model, theirs.visual_projection = _Given(), nn.Identity()
    return SafetyChecker(folder, _SIZE, "sexual.explicit"), theirs


def _theirs(checker: Any, embeddings: torch.Tensor) -> list[bool]:
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    _, unsafe = checker(clip_input=embeddings, images=np.zeros((len(embeddings), 1, 1, 3)))
    return list(unsafe)


def _random(rng: torch.Generator, count: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Any directions; thresholds that about a tenth of the embeddings reach, some of them special ones."""

    def of(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng)

    tensors = {
        "concept_embeds": of(_CONCEPTS, _SIZE),
        "special_care_embeds": of(_SPECIAL, _SIZE),
        "concept_embeds_weights": 0.3 + 0.02 * of(_CONCEPTS),
        "special_care_embeds_weights": 0.2 + 0.02 * of(_SPECIAL),
    }
    return tensors, of(count, _SIZE)


def _on_the_border(rng: torch.Generator, count: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Embeddings whose cosines are exactly 0, ±1/4 or ±1/2, and thresholds a few halves of a thousandth off.

    So every sum is exact, whatever its order, and every score lies on or next to where rounding decides.
    """
    nonzero = torch.where(torch.rand(count, generator=rng) < 0.5, 4, 16)
    order = torch.rand(count, _SIZE, generator=rng).argsort(1)
    signs = torch.where(torch.rand(count, _SIZE, generator=rng) < 0.5, -1.0, 1.0)
    embeddings = torch.where(order < nonzero[:, None], nonzero[:, None].rsqrt() * signs, 0.0)

    def thresholds(size: int) -> torch.Tensor:
        cosines = torch.where(torch.rand(size, generator=rng) < 0.5, 0.25, 0.5)
        halves = torch.randint(-24, 25, (size,), generator=rng)
        units = torch.randint(-2, 3, (size,), generator=rng)
        return cosines + 0.0005 * halves + 2.0**-25 * units

    axes = torch.eye(_SIZE)[torch.randperm(_SIZE, generator=rng)[: _CONCEPTS + _SPECIAL]]
    return {
        "concept_embeds": axes[_SPECIAL:].contiguous(),
        "special_care_embeds": axes[:_SPECIAL].contiguous(),
        "concept_embeds_weights": thresholds(_CONCEPTS),
        "special_care_embeds_weights": thresholds(_SPECIAL),
    }, embeddings


@pytest.mark.parametrize("draw", [_random, _on_the_border])
def test_the_rule_is_that_of_diffusers_on_two_thousand_embeddings(draw: Any, tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(5)
    special, unsafe = 0, 0
    for number in range(50):
        tensors, embeddings = draw(rng, 40)
        ours, theirs = _checker(tmp_path / str(number), tensors)
        unit = nn.functional.normalize(embeddings)
        check = ours.check(unit.numpy())
        assert check.unsafe.tolist() == _theirs(theirs, embeddings)
        likeliest = [max((score for _, score, _ in of), default=0.0) for of in _concepts(ours, unit)]
        assert [score >= 0.5 for score in likeliest] == check.unsafe.tolist()
        special, unsafe = special + int((check.special_scores > 0).any(1).sum()), unsafe + check.unsafe.sum()
    assert 100 < special < 1_900
    assert 100 < unsafe < 1_900


def _concepts(ours: SafetyChecker, unit: torch.Tensor) -> list[list[tuple[str, float, Any]]]:
    return [[s for s in of if s[0] == "sexual.explicit"] for of in ours.signals(unit.numpy())]


def test_a_special_concept_makes_later_ones_and_all_others_more_sensitive(tmp_path: Path) -> None:
    """Cosines are all 1/2. By hand: -0.001; 0.004 (seen); -0.004 + 0.01; then -0.009 + 0.01, -0.02 + 0.01."""
    axes = torch.eye(_SIZE)
    tensors = {
        "special_care_embeds": axes[:3].clone(),
        "special_care_embeds_weights": torch.tensor([0.501, 0.496, 0.504]),
        "concept_embeds": axes[2:4].clone(),
        "concept_embeds_weights": torch.tensor([0.509, 0.520]),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    checker = SafetyChecker(tmp_path, _SIZE, "sexual.explicit")
    embedding = axes[:4].sum(0, keepdim=True).numpy() / 2
    check = checker.check(embedding)
    assert check.special_scores[0] == pytest.approx([-0.001, 0.004, 0.006], abs=1e-6)
    assert check.scores[0] == pytest.approx([0.001, -0.010], abs=1e-6)
    (signals,) = checker.signals(embedding)
    assert [(label, evidence.name, evidence.similarity) for label, _, evidence in signals if evidence] == [
        ("special-care", "special 0", 0.5),
        ("special-care", "special 1", 0.5),
        ("special-care", "special 2", 0.5),
        ("sexual.explicit", "concept 0", 0.5),
        ("sexual.explicit", "concept 1", 0.5),
    ]
    assert signals[3][1] == pytest.approx(1 / (1 + np.exp(-0.05)), abs=1e-5)


def test_a_checker_needs_its_tensors_and_its_own_clip(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no file"):
        SafetyChecker(tmp_path, _SIZE, "x")
    save_file({"concept_embeds": torch.ones(2, _SIZE)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="special_care_embeds"):
        SafetyChecker(tmp_path, _SIZE, "x")
    tensors, _ = _random(torch.Generator().manual_seed(0), 1)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="expects 64 dimensions, not 12"):
        SafetyChecker(tmp_path, 12, "x")


def _save(path: Path, layers: nn.Sequential, **about: str) -> Path:
    save_file(layers.state_dict(), path, {"labels": '["violence", "hate"]', **about})
    return path


@pytest.mark.parametrize(
    ("activation", "layer", "output", "last"),
    [
        ("relu", nn.ReLU(), "sigmoid", nn.Sigmoid()),
        ("tanh", nn.Tanh(), "softmax", nn.Softmax(1)),
        ("sigmoid", nn.Sigmoid(), "sigmoid", nn.Sigmoid()),
        ("identity", nn.Identity(), "softmax", nn.Softmax(1)),
    ],
)
def test_trained_layers_answer_as_in_torch(
    activation: str, layer: nn.Module, output: str, last: nn.Module, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(6, 5), layer, nn.Linear(5, 4, bias=False), layer, nn.Linear(4, 2))
    head = TrainedHead(_save(tmp_path / "h.safetensors", layers, activation=activation, output=output), 6)
    unit = nn.functional.normalize(torch.randn(7, 6))
    with torch.inference_mode():
        expected = last(layers(unit)).numpy()
    said = head.signals(unit.numpy())
    assert [[label for label, *_ in of] for of in said] == [["violence", "hate"]] * 7
    np.testing.assert_allclose([[score for _, score, _ in of] for of in said], expected, rtol=0, atol=1e-6)


def test_one_linear_layer_in_half_precision_is_a_head(tmp_path: Path) -> None:
    path = _save(tmp_path / "h.safetensors", nn.Sequential(nn.Linear(6, 2)).half())
    assert TrainedHead(path, 6).labels == {"violence", "hate"}


def test_a_head_can_be_pinned(colour_clip: Path, tmp_path: Path) -> None:
    path = _save(tmp_path / "h.safetensors", nn.Sequential(nn.Linear(3, 2)))
    pin = hashlib.sha256(path.read_bytes()).hexdigest()
    model = load_clip(colour_clip)
    assert load_head(model, {"file": str(path), "sha256": pin}).labels == load_head(model, str(path)).labels
    with pytest.raises(ModelError, match="differs from the given one"):
        load_head(model, {"file": str(path), "sha256": "0" * 64})
    with pytest.raises(ModelError, match="remove any others"):
        load_head(model, {"file": str(path), "sha": pin})


@pytest.mark.parametrize(
    ("layers", "about", "says"),
    [
        (nn.Sequential(nn.Linear(5, 2)), {}, "expects 5 dimensions, not 6"),
        (nn.Sequential(nn.Linear(6, 3)), {}, "3 outputs and 2 labels"),
        (nn.Sequential(nn.Linear(6, 2)), {"labels": "violence"}, "has no labels"),
        (nn.Sequential(nn.Linear(6, 2)), {"labels": json.dumps([1, 2])}, "has no labels"),
        (nn.Sequential(nn.Linear(6, 2)), {"activation": "swish"}, 'asks for "swish"'),
        (nn.Sequential(nn.Linear(6, 2)), {"output": "logits"}, 'asks for "logits"'),
        (nn.Sequential(nn.Conv1d(6, 2, 1)), {}, "not linear"),
        (nn.Sequential(nn.ReLU()), {}, r"no tensor 0\.weight"),
    ],
)
def test_what_is_no_head_is_refused(
    layers: nn.Sequential, about: dict[str, str], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=says):
        TrainedHead(_save(tmp_path / "h.safetensors", layers, **about), 6)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    torch.save({"0.weight": torch.ones(2, 6)}, tmp_path / "h.safetensors")
    with pytest.raises(ModelError, match="not a safetensors file"):
        TrainedHead(tmp_path / "h.safetensors", 6)


def test_concepts_say_which_words_were_nearest(colour_clip: Path) -> None:
    """Red is at log odds 4 from white, and blue at 0: see the test of the log odds."""
    head = ConceptHead(load_clip(colour_clip), {"warm": ["red"], "cold": ["green", "blue"]}, ["white"])
    red = np.array([[1, -1, -1]], np.float32) / np.sqrt(np.float32(3))
    ((warm, cold),) = head.signals(red)
    assert warm[2]
    assert cold[2]
    assert (warm[0], warm[2].name, warm[2].similarity) == ("warm", "red", pytest.approx(1, abs=1e-6))
    assert warm[1] == pytest.approx(0.98201379, abs=1e-5)
    assert (cold[1], cold[2].similarity) == (pytest.approx(0.5, abs=1e-5), pytest.approx(-1 / 3, abs=1e-6))


def test_calibration_makes_probabilities_of_log_odds(colour_clip: Path) -> None:
    """Of log odds 4: 0.5 · 4 - 1 = 1."""
    head = ConceptHead(load_clip(colour_clip), {"warm": ["red"]}, ["white"], (0.5, -1.0))
    red = np.array([[1, -1, -1]], np.float32) / np.sqrt(np.float32(3))
    assert head.signals(red)[0][0][1] == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-5)
