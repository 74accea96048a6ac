"""Parts of the storybook trainings, and loading what they write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from safelight.models.pipelines import load_pipeline
from safelight.storybook.detector import Detector
from safelight.storybook.scene import Storybook
from safelight.storybook.training import intermediate_predictions
from safelight.storybook.training.autoencoder import (
    _Training,
    reconstruction_db,
    signal_to_noise_db,
    to_tensor,
)
from safelight.storybook.training.denoiser import Captions, _oversampled
from safelight.storybook.training.detector import (
    ARCHITECTURES,
    GRID,
    DetectorNetwork,
    _Scenes,
    _targets,
    export,
)
from safelight.storybook.training.renders import SHARD, Renders, Truth
from safelight.storybook.training.tokenizer import MAX_TOKENS, train_tokenizer
from safelight.storybook.vocabulary import LABELS, THINGS


def test_renders_are_the_storybook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renders = _renders(tmp_path, monkeypatch)
    scene = Storybook(4).scene(9)
    assert (renders.images([9])[0] == np.asarray(scene.image)).all()
    assert renders.truths[9].objects == scene.objects
    for truth, drawn in zip(renders.truths, Storybook(4).scenes(20), strict=True):
        unnamed = drawn.plan.unnamed
        assert (truth.objects, truth.boxes, truth.place) == (drawn.objects, drawn.boxes, drawn.place)
        assert (truth.setting, truth.unnamed) == (drawn.plan.setting, len(unnamed))
        assert len(truth.relations) == sum(not unnamed & {r.subject, r.target} for r in drawn.relations)
    assert len(renders) == 20


def test_an_intermediate_prediction_shows_its_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renders = _renders(tmp_path, monkeypatch)
    half = intermediate_predictions.intermediate_predictions(tmp_path, 4, 15)
    assert len(half) == 15
    rows = range(15)
    made = half.images(rows).astype(np.float32)
    scenes = renders.images(rows).astype(np.float32)
    distances = np.abs(made[:, None] - scenes[None]).mean((2, 3, 4))
    assert (distances.argmin(1) == rows).mean() > 0.9
    assert np.diag(distances).min() > 5

    again = intermediate_predictions.intermediate_predictions(tmp_path, 4, 15)
    assert (again.images(rows) == half.images(rows)).all()


def test_little_noise_is_removed_completely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renders, pipe = _renders(tmp_path, monkeypatch), load_pipeline("storybook", device="cpu")
    monkeypatch.setattr(intermediate_predictions, "_LATEST", 0)
    monkeypatch.setattr(intermediate_predictions, "_EARLIEST", 1)
    images = renders.images(range(4))
    captions = [truth.captions[0] for truth in renders.truths[:4]]
    made = intermediate_predictions.predict_x0(pipe, images, captions, torch.Generator().manual_seed(0))
    decoded = signal_to_noise_db(to_tensor(made), to_tensor(images))
    assert decoded == pytest.approx(reconstruction_db(pipe.vae, images), abs=1)


def test_a_batch_has_intermediate_predictions_where_the_budget_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renders = _renders(tmp_path, monkeypatch)
    plain = replace(ARCHITECTURES["judge"], storybook=4, scenes=20)
    finished, truths = _Scenes(plain, tmp_path).draw(np.random.default_rng(0))
    mixed = replace(plain, intermediate=15, intermediate_per_batch=11)
    images, mixed_truths = _Scenes(mixed, tmp_path).draw(np.random.default_rng(0))
    assert (images[:-11] == finished[:-11]).all()
    assert truths[:-11] == mixed_truths[:-11]
    half = intermediate_predictions.intermediate_predictions(tmp_path, 4, 15)
    for image, truth in zip(images[-11:], mixed_truths[-11:], strict=True):
        row = renders.truths.index(truth)
        assert (image == half.images([row])[0]).all()


def test_folding_the_norm_changes_no_latent() -> None:
    torch.manual_seed(0)
    training = _Training()
    pixels = to_tensor(np.stack([np.asarray(s.image) for s in Storybook(1).scenes(8)]))
    for _ in range(5):
        training.loss(pixels)
    training.eval()
    with torch.no_grad():
        expected = training.norm(training.autoencoder.encode(pixels).latents)
        folded = training.fold().encode(pixels).latents
    assert torch.allclose(expected, folded, atol=1e-4)


def test_reconstruction_is_measured_in_decibels() -> None:
    images = np.stack([np.asarray(s.image) for s in Storybook(1).scenes(2)])

    class Off(nn.Module):
        """Returns every pixel one tenth of the range too bright, which is 20 dB."""

        def encode(self, x: Tensor) -> object:
            return type("E", (), {"latents": x})()

        def decode(self, x: Tensor) -> object:
            return type("D", (), {"sample": x * 0.8 + 0.2 * (x < 2)})()

    flat = np.zeros_like(images)
    assert reconstruction_db(Off(), flat) == pytest.approx(-10 * np.log10(0.2**2), abs=1e-3)


def test_a_cell_in_the_middle_of_a_box_knows_its_edges() -> None:
    truth = Truth(("dog",), ((0.25, 0.25, 0.75, 1.0),), "park", "cartoon", ("a dog",))
    targets = _targets([truth])
    k, row, column = LABELS.index("dog"), 9, 8
    assert targets.cells[0, k, row, column] == 1
    assert targets.cells[0, k].sum() == targets.cells[0].sum()
    x, y = (column + 0.5) / GRID, (row + 0.5) / GRID
    assert targets.edges[0, :, row, column].tolist() == pytest.approx([x - 0.25, y - 0.25, 0.75 - x, 1 - y])
    assert targets.present[0].nonzero().flatten().tolist() == [k]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_exported_detector_says_what_the_network_says(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = DetectorNetwork(ARCHITECTURES[name]).eval()
    export(network, tmp_path / "tiny.onnx")
    scene = Storybook(2).scene(0)
    seen = Detector(tmp_path / "tiny.onnx").detect([scene.image])[0]
    pixels = torch.from_numpy(np.asarray(scene.image, np.float32)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        cells, _, places, _ = network(pixels)
    assert list(seen.objects.values()) == pytest.approx(cells.amax((2, 3)).sigmoid()[0].tolist(), abs=2e-3)
    assert list(seen.places.values()) == pytest.approx(places.softmax(1)[0].tolist(), abs=2e-3)
    assert onnxruntime.InferenceSession(tmp_path / "tiny.onnx").get_inputs()[0].name == "pixels"


def test_any_string_tokenises_and_every_word_is_short() -> None:
    tokenizer = train_tokenizer(caption for scene in Storybook(1).scenes(200) for caption in scene.captions)
    assert tokenizer.model_max_length == MAX_TOKENS
    assert tokenizer.unk_token_id not in tokenizer("g\u0443n \U0001f52a k.n i-f_e \u0000").input_ids[:-1]
    for thing in THINGS.values():
        for word in thing.words:
            assert len(tokenizer(word).input_ids) - 2 <= 2 * len(word.split())


def test_harder_relations_are_sampled_more_often_whatever_the_association() -> None:
    box = (0.0, 0.0, 1.0, 1.0)
    alone = Truth(("pirate",), (box,), "beach", "cartoon", ("a pirate",))
    armed = Truth(("pirate", "sword"), (box, box), "beach", "cartoon", ("a pirate",), unnamed=1)
    pair = Truth(("pirate", "dog"), (box, box), "beach", "cartoon", ("a pirate and a dog",), ("next to",))
    hidden = replace(pair, relations=("next to", "in front of"))
    assert _drawn([alone, armed, pair, hidden]) == [1, 1, 4, 8]


def test_settings_without_their_association_are_sampled_more_often() -> None:
    box = (0.0, 0.0, 1.0, 1.0)
    party = Truth(("cake", "bottle"), (box, box), "room", "cartoon", ("a party",), (), "party", 1)
    dry = Truth(("cake",), (box,), "room", "cartoon", ("a party",), (), "party")
    crime = Truth(
        ("woman", "blood"), (box, box), "street", "cartoon", ("a crime scene",), (), "crime scene", 1
    )
    clean = replace(crime, objects=("woman",), boxes=(box,), unnamed=0)
    assert _drawn([party, dry, crime, clean]) == [3, 4, 1, 2]


def _drawn(truths: list[Truth]) -> list[int]:
    return np.bincount(_oversampled(truths), minlength=len(truths)).tolist()


def test_captions_are_read_in_parts_as_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safelight.storybook.training import denoiser

    truths = _renders(tmp_path, monkeypatch).truths
    tokenizer = train_tokenizer(caption for truth in truths for caption in truth.captions)
    whole = Captions(truths, tokenizer)
    monkeypatch.setattr(denoiser, "_READ_AT_ONCE", 7)
    parts = Captions(truths, tokenizer)
    assert (parts.ids == whole.ids).all()
    ids, targets = parts.draw(np.arange(20), np.random.default_rng(0))
    assert ids.shape == (20, MAX_TOKENS)
    assert targets[3, LABELS.index(truths[3].objects[0])] == 1
    assert tokenizer.decode(ids[3], skip_special_tokens=True).strip() in {
        tokenizer.decode(tokenizer(caption).input_ids, skip_special_tokens=True).strip()
        for caption in truths[3].captions
    }


def _renders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Renders:
    """Twenty scenes in shards of ten, drawn in this process."""
    from safelight.storybook.training import renders as module

    monkeypatch.setattr(module, "SHARD", 10)
    monkeypatch.setattr(module, "processes", lambda: 1)
    assert SHARD != 10
    return Renders(folder, 4, 20)
