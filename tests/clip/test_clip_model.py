from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from safelight.clip import ClipModel, Concepts, load_clip, sigmoid
from safelight.errors import FilterError, ModelError

RED, GREEN = (Image.new("RGB", (20, 10), colour) for colour in ("red", "lime"))


def _noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (50, 40, 3), np.uint8))


def test_colours_lie_where_they_should(colour_clip: Path) -> None:
    model = load_clip(colour_clip)
    assert (model.dimensions, model.scale) == (3, 3.0)
    side = 3**-0.5
    assert model.embed_images([RED])[0] == pytest.approx([side, -side, -side], abs=1e-6)
    assert model.embed_texts(["green"])[0] == pytest.approx([-side, side, -side], abs=1e-6)
    assert model.embed_images([]).shape == model.embed_texts([]).shape == (0, 3)


def test_a_transformers_folder_embeds_as_transformers_does(clip_folder: Path) -> None:
    from transformers import AutoTokenizer, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    images, texts = [_noise(i) for i in range(3)], ["a dog", "a cat with an umbrella in the park"]
    reference = CLIPModel.from_pretrained(clip_folder).eval()
    pixels = CLIPImageProcessorPil.from_pretrained(clip_folder)(images, return_tensors="pt")
    tokens = AutoTokenizer.from_pretrained(clip_folder)(
        texts, padding=True, truncation=True, max_length=16, return_tensors="pt"
    )
    with torch.inference_mode():
        seen = reference.get_image_features(**pixels).pooler_output
        read = reference.get_text_features(tokens.input_ids, tokens.attention_mask).pooler_output
    model = load_clip(clip_folder, device="cpu")
    close = {"rtol": 0, "atol": 1e-6}
    np.testing.assert_allclose(model.embed_images(images), torch.nn.functional.normalize(seen), **close)
    np.testing.assert_allclose(model.embed_texts(texts), torch.nn.functional.normalize(read), **close)
    assert model.scale == pytest.approx(1 / 0.07, rel=1e-3)


def test_a_safety_checker_embeds_as_it_does_itself(checker_folder: Path) -> None:
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    images = [_noise(i) for i in range(3)]
    checker = StableDiffusionSafetyChecker.from_pretrained(checker_folder)
    pixels = CLIPImageProcessorPil.from_pretrained(checker_folder)(images, return_tensors="pt").pixel_values
    with torch.inference_mode():
        seen = checker.visual_projection(checker.vision_model(pixels)[1])
    model = load_clip(checker_folder, device="cpu")
    expected = torch.nn.functional.normalize(seen)
    np.testing.assert_allclose(model.embed_images(images), expected, rtol=0, atol=1e-6)
    with pytest.raises(ModelError, match="has no text tower"):
        model.embed_texts(["a dog"])


def test_names_of_weights_with_one_level_more_are_understood(checker_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checker_folder, tmp_path / "older"))
    tensors = load_file(folder / "model.safetensors")
    older = {name.replace("vision_model.", "vision_model.vision_model."): t for name, t in tensors.items()}
    older["vision_model.vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    save_file(older, folder / "model.safetensors")
    images = [_noise(0)]
    was, is_ = (load_clip(path, device="cpu").embed_images(images) for path in (checker_folder, folder))
    np.testing.assert_allclose(was, is_, rtol=0, atol=1e-6)


@pytest.mark.parametrize("fixture", ["clip_folder", "checker_folder"])
def test_a_missing_weight_is_never_made_up(
    fixture: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = Path(shutil.copytree(request.getfixturevalue(fixture), tmp_path / "torn"))
    tensors = load_file(folder / "model.safetensors")
    gone = next(name for name in tensors if name.startswith("vision_model.") and name.endswith("fc1.weight"))
    save_file({k: v for k, v in tensors.items() if k != gone}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="torn"):
        load_clip(folder, device="cpu")


def test_altered_weights_are_refused(colour_clip: Path, clip_folder: Path, tmp_path: Path) -> None:
    onnx = Path(shutil.copytree(colour_clip, tmp_path / "onnx"))
    (onnx / "clip.json").write_text((onnx / "clip.json").read_text().replace("3.0", "9.0"))
    with pytest.raises(ModelError, match=r"clip\.json was altered"):
        load_clip(onnx)
    pinned = Path(shutil.copytree(clip_folder, tmp_path / "pinned"))
    (pinned / "hashes.json").write_text(json.dumps({"model.safetensors": "0" * 64}))
    with pytest.raises(ModelError, match="was altered"):
        load_clip(pinned, device="cpu")


@pytest.mark.parametrize(
    ("model", "revision", "says"),
    [
        ("nowhere", None, "there is no model at nowhere"),
        ("openai/clip-vit-large-patch14", None, "is not pinned"),
        ("openai/clip-vit-large-patch14", "main", "40 hexadecimal digits"),
    ],
)
def test_only_what_is_named_exactly_is_loaded(model: str, revision: str | None, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        load_clip(model, revision)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ModelError, match="is not a CLIP"):
        load_clip(tmp_path, device="cpu")


class Counting:
    """Towers that count what they are given."""

    version, scale, dimensions = "1", 1.0, 3

    def __init__(self, row: Callable[[Any], Any]) -> None:
        self.preprocessing: Any = lambda image: np.asarray(image, np.float32).mean((0, 1))
        self.row = row
        self.seen: list[Any] = []

    def encode_images(self, pixels: Any) -> Any:
        self.seen += pixels.tolist()
        return np.array([self.row(row) for row in pixels], np.float32)

    def encode_texts(self, texts: Any) -> Any:
        return self.encode_images(np.array([[len(text), 1.0, 1.0] for text in texts]))


def test_an_image_is_embedded_once() -> None:
    towers = Counting(lambda row: row)
    model = ClipModel(towers)
    first = model.embed_images([RED, GREEN, RED.copy()])
    again = model.embed_images([GREEN.convert("RGBA"), RED])
    assert len(towers.seen) == 2
    assert (first[[1, 0]] == again).all()
    assert (first[0] == first[2]).all()
    changed = RED.copy()
    model.embed_images([changed])
    changed.paste("blue", (0, 0, 20, 10))
    assert model.embed_images([changed])[0].tolist() == [0, 0, 1]
    assert len(towers.seen) == 3


def test_images_of_the_same_bytes_and_other_sides_are_not_mixed_up() -> None:
    towers = Counting(lambda row: row)
    ClipModel(towers).embed_images([Image.new("RGB", (2, 3)), Image.new("RGB", (3, 2))])
    assert len(towers.seen) == 2


def test_memory_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safelight.clip.model._CACHE_SIZE", 2)
    towers = Counting(lambda row: row)
    model = ClipModel(towers)
    rows = model.embed_texts(["a", "bb", "ccc", "dddd"])
    assert rows.shape == (4, 3)
    model.embed_texts(["dddd", "ccc"])
    assert len(towers.seen) == 4
    model.embed_texts(["a"])
    assert len(towers.seen) == 5


def test_many_threads_get_their_own_answers() -> None:
    model = ClipModel(Counting(lambda row: row))
    images = [Image.new("RGB", (4, 4), (i, 255 - i, 7)) for i in range(200)]
    alone = ClipModel(Counting(lambda row: row)).embed_images(images)
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda i: model.embed_images([images[i]])[0], range(200)))
    assert (np.array(together) == alone).all()


def test_what_has_no_direction_is_no_number() -> None:
    model = ClipModel(Counting(lambda row: row * np.nan if row[0] else row * 0))
    assert np.isnan(model.embed_images([RED, GREEN])).all()


def test_a_model_is_loaded_once(colour_clip: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(load_clip, [colour_clip, str(colour_clip), colour_clip / "." / "."] * 3))
    assert len({id(model) for model in loaded}) == 1


def test_log_odds_are_worked_out_by_hand(colour_clip: Path) -> None:
    """Red is at cosine 1 from itself and -1/3 from any other colour; the scale is 3."""
    model = load_clip(colour_clip)
    concepts = Concepts(model, {"red": ["red"], "any": ["red", "green"]}, ["white"])
    red = model.embed_images([RED])
    mean = np.log((np.exp(3) + np.exp(-1)) / 2)
    seen = concepts.compare(red)
    assert seen.log_odds[0] == pytest.approx([4, mean + 1], abs=1e-5)
    assert seen.cosines[0] == pytest.approx([1, 1], abs=1e-6)
    assert concepts.description(1, seen.nearest[0, 1]) == "red"


@pytest.mark.parametrize("wrong", [{"red": []}, {"red": "red"}, {"red": [""]}])
def test_a_concept_without_a_description_is_refused(colour_clip: Path, wrong: Any) -> None:
    with pytest.raises(FilterError, match="at least one description"):
        Concepts(load_clip(colour_clip), wrong)


def test_the_sigmoid_does_not_overflow() -> None:
    assert sigmoid(np.array([-1e4, 0, 4, 1e4], np.float32)).tolist() == pytest.approx([0, 0.5, 0.98201379, 1])
