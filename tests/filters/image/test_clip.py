from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from safelight import registry
from safelight.clip import ClipModel, load_clip
from safelight.errors import FilterError, ModelError
from safelight.filters.image.clip import Clip
from safelight.guard.guard import Guard
from safelight.types import Concept

RED, WHITE = (Image.new("RGB", (30, 20), colour) for colour in ("red", "white"))
COLOURS: dict[str, Any] = {"concepts": {"warm": ["red"]}, "neutral": ["white", "blue"]}


def test_concepts_become_findings(colour_clip: Path) -> None:
    """Red: 3 to -1 for white and for blue. White: -1 to the mean of exp(3) and exp(-1): nothing is seen."""
    clip = Clip(colour_clip, **COLOURS, name="mine")
    assert clip.labels == {"warm"}
    red, white = clip.find([RED, WHITE])
    assert isinstance(red, list)
    (found,) = red
    assert (found.label, found.filter) == ("warm", "mine")
    assert found.score == pytest.approx(0.98201379, abs=1e-5)
    assert isinstance(found.evidence, Concept)
    assert (found.evidence.name, found.evidence.similarity) == ("red", pytest.approx(1, abs=1e-6))
    assert white == []


def test_the_policy_file_is_enough(colour_clip: Path, write_policy: Any) -> None:
    options = f"""
[filters.options.eye]
use = "clip"
model = "{colour_clip}"
neutral = ["white", "blue"]
[filters.options.eye.concepts]
weapons = ["red"]
"""
    policy = write_policy(
        ('image = ["never"]', 'image = ["eye"]'), ("timeout_s = 10\n", f"timeout_s = 10\n{options}")
    )
    red, white = Guard.from_policy(policy).screen_images([RED, WHITE])
    assert (red.action, white.action) == ("block", "allow")
    assert set(red.filters) == {"eye"}
    assert red.to_dict()["findings"][0]["evidence"]["name"] == "red"


def test_many_heads_cost_one_embedding(
    colour_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linear heads by hand: red is (1, -1, -1) / √3, so that three times its first number is 1.732."""
    weight = torch.tensor([[3.0, 0, 0], [0, 3.0, 0]])
    files = [tmp_path / f"{i}.safetensors" for i in range(2)]
    for i, file in enumerate(files):
        save_file({"0.weight": weight}, file, {"labels": f'["a{i}", "b{i}"]'})
    model, seen = load_clip(colour_clip), []
    run = model._towers.encode_images
    monkeypatch.setattr(model, "_cache", type(model._cache)(10))
    monkeypatch.setattr(
        model._towers, "encode_images", lambda pixels: seen.append(len(pixels)) or run(pixels)
    )
    clip = Clip(colour_clip, **COLOURS, heads=[str(file) for file in files])
    scores = {f.label: f.score for f in clip.find([RED])[0]}  # type: ignore[union-attr]
    high, low = (1 / (1 + np.exp(-x * 3**0.5)) for x in (1, -1))
    assert scores == pytest.approx(
        {"warm": 0.98201379, "a0": high, "b0": low, "a1": high, "b1": low}, abs=1e-5
    )
    Clip(colour_clip, **COLOURS).find([RED])
    assert seen == [1]


def test_a_safety_checker_decides_as_in_diffusers(checker_folder: Path) -> None:
    """On real images, through the vision tower: what it blacks out has a score of a half or more."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8)) for _ in range(12)]
    images += [Image.new("RGB", (48, 40), colour) for colour in ("red", "green", "blue", "white")]
    checker = StableDiffusionSafetyChecker.from_pretrained(checker_folder).eval()
    pixels = CLIPImageProcessorPil.from_pretrained(checker_folder)(images, return_tensors="pt").pixel_values
    with torch.inference_mode():
        seen = checker.visual_projection(checker.vision_model(pixels)[1])
    cosines = nn.functional.normalize(seen) @ nn.functional.normalize(checker.concept_embeds).T
    checker.concept_embeds_weights.data[:] = cosines.max(1).values.median()
    checker.save_pretrained(folder := checker_folder / "fitted")
    (folder / "preprocessor_config.json").write_bytes(
        (checker_folder / "preprocessor_config.json").read_bytes()
    )
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    _, unsafe = checker(clip_input=pixels, images=np.zeros((len(images), 1, 1, 3)))
    assert 0 < sum(unsafe) < len(images)
    clip = Clip(folder, device="cpu", safety_checker=folder)
    assert clip.labels == {"sexual.explicit", "special-care"}
    found = clip.find(images)
    assert [
        any(f.label == "sexual.explicit" and f.score >= 0.5 for f in of if isinstance(of, list))
        for of in found
    ] == unsafe


def test_an_image_without_an_embedding_is_blocked_alone(
    colour_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = Clip(colour_clip, **COLOURS)
    rows = np.array([[np.nan] * 3, [1, 0, 0]], np.float32)
    monkeypatch.setattr(ClipModel, "embed_images", lambda self, images: rows)
    lost, seen = clip.find([RED, WHITE])
    assert isinstance(lost, FilterError)
    assert isinstance(seen, list)


def test_a_head_that_gives_no_number_is_never_taken_for_nothing_found(
    colour_clip: Path, tmp_path: Path
) -> None:
    save_file({"0.weight": torch.full((1, 3), torch.nan)}, tmp_path / "h.safetensors", {"labels": '["x"]'})
    with pytest.raises(ValueError, match=r"not in \[0, 1\]"):
        Clip(colour_clip, heads=[str(tmp_path / "h.safetensors")]).find([RED])


@pytest.mark.parametrize("across", [False, True])
def test_the_edges_of_a_long_image_are_seen_as_a_whole(colour_clip: Path, across: bool) -> None:
    image = Image.new("RGB", (100, 20), "blue")
    image.paste("red", (0, 0, 20, 20))
    image = image.rotate(90, expand=True) if across else image
    assert Clip(colour_clip, **COLOURS).find([image, RED])[0] == []
    edge, red = Clip(colour_clip, **COLOURS, whole=True).find([image, RED])
    assert isinstance(edge, list)
    assert [f.score for f in edge] == [pytest.approx(0.98201379, abs=1e-5)]
    assert isinstance(red, list)
    assert len(red) == 1


def test_what_is_too_narrow_to_cover_is_blocked(colour_clip: Path) -> None:
    narrow, red = Clip(colour_clip, **COLOURS, whole=True).find([Image.new("RGB", (5000, 2)), RED])
    assert isinstance(narrow, FilterError)
    assert isinstance(red, list)


def test_a_filter_that_looks_for_nothing_is_refused(colour_clip: Path) -> None:
    with pytest.raises(FilterError, match="at least one of concepts"):
        registry.build("image_filter", "clip", model=str(colour_clip))


def test_a_head_of_another_model_is_refused(colour_clip: Path, checker_folder: Path) -> None:
    with pytest.raises(ModelError, match="use the CLIP that it was trained on"):
        Clip(colour_clip, safety_checker=checker_folder)


def test_the_version_changes_with_what_it_looks_for(colour_clip: Path) -> None:
    versions = {
        Clip(colour_clip, concepts={"warm": words}, neutral=["white"]).version
        for words in (["red"], ["red", "blue"], ["red"])
    }
    assert len(versions) == 2
