"""The text gate lets text pass in many fonts, stops most photographs, and can be trained again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from safelight.errors import ModelError, RequestError
from safelight.filters.image import text_gate
from safelight.filters.image.text_gate import TextGate
from safelight.filters.image.training import text_gate as training
from safelight.filters.image.training.rendered_text import (
    TextStyle,
    behind_text,
    fonts,
    random_style,
    render_text,
)

PHOTOGRAPHS = [Image.fromarray(image) for image in load_sample_images().images]


@pytest.fixture(scope="module")
def gate() -> TextGate:
    return TextGate()


def test_text_passes_in_every_font_size_and_colour(gate: TextGate) -> None:
    rng = np.random.default_rng(1)
    missed = 0
    for i in range(60):
        background = PHOTOGRAPHS[i % 2].resize((512, 512)) if i % 3 else Image.new("RGB", (512, 512), "tan")
        font, size, at = fonts()[i % len(fonts())], (16, 24, 48, 90)[i % 4], (rng.random(), rng.random())
        style = random_style(rng, font, size, behind_text(background, "some words", font, size, at))
        text = render_text(background, "some words", style, at)
        missed += not gate.passes(text.image)
    assert missed <= 4


def test_images_without_any_structure_are_stopped(gate: TextGate) -> None:
    gradient = Image.linear_gradient("L").convert("RGB")
    for image in (gradient, gradient.resize((2000, 900)), Image.new("RGB", (8, 4000), "navy")):
        assert not gate.passes(image)


def test_an_altered_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_gate, "_NETWORK", tmp_path / "text_gate.onnx")
    with pytest.raises(ModelError, match="missing"):
        TextGate()


def test_crops_tell_which_cells_show_text() -> None:
    rng = np.random.default_rng(0)
    crops = [training.crop(PHOTOGRAPHS, rng) for _ in range(60)]
    shows = [crop.covered.max() >= 0.5 for crop in crops]
    assert 0.3 < np.mean(shows) < 0.7
    assert {crop.pixels.shape for crop in crops} == {(training.SIDE, training.SIDE, 3)}


def test_rendered_text_is_inside_its_mask() -> None:
    style = TextStyle(fonts()[0], 40, (255, 255, 255), angle=10)
    text = render_text(Image.new("RGB", (400, 400)), "one two three four five six", style)
    bright = np.asarray(text.image.convert("L")) > 128
    assert len(text.lines) > 1
    assert bright.sum() > 500
    assert not (bright & (np.asarray(text.mask) == 0)).any()


def test_a_word_that_does_not_fit_is_refused() -> None:
    with pytest.raises(RequestError, match="too large"):
        render_text(Image.new("RGB", (64, 64)), "incomprehensible", TextStyle(fonts()[0], 40, (9, 9, 9)))


def test_the_gate_can_be_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a budget of seconds; the exported network gives what the trained one does."""
    monkeypatch.setattr(training, "_BATCH", 2)
    monkeypatch.setattr(training, "scaled", lambda count, share: 8)
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number, photograph in enumerate(PHOTOGRAPHS):
        photograph.save(folder / f"{number}.jpg")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    training.train_text_gate(folder, tmp_path / "gate.onnx", tmp_path / "work")
    monkeypatch.setattr(text_gate, "_NETWORK", tmp_path / "gate.onnx")
    pixels = np.asarray(PHOTOGRAPHS[0].crop((0, 0, 256, 192)), np.float32).transpose(2, 0, 1)[None]
    (logits,) = TextGate()._session.run(None, {"pixels": pixels})
    assert logits.shape == (1, 12, 16)
    assert np.isfinite(logits).all()
    network = training.GateNetwork().eval()
    training.export(network, tmp_path / "other.onnx")
    monkeypatch.setattr(text_gate, "_NETWORK", tmp_path / "other.onnx")
    (logits,) = TextGate()._session.run(None, {"pixels": pixels})
    with torch.no_grad():
        assert np.abs(network(torch.from_numpy(pixels)).numpy() - logits).max() < 1e-4


def test_a_folder_without_photographs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="give a folder of photographs"):
        training.read_photographs(tmp_path)
