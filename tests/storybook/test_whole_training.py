"""The whole training, from rendering to the final folder, on a budget of a few seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import safelight
from safelight.concurrency import thread_count
from safelight.storybook.detector import Detector
from safelight.storybook.scene import Storybook
from safelight.storybook.training import autoencoder, denoiser, detector, renders
from safelight.storybook.training.detector import train_detector
from safelight.storybook.training.storybook import train_storybook
from safelight.storybook.vocabulary import LABELS
from safelight.training import fit


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process, shards of 32 scenes, and two steps of every part."""
    monkeypatch.setattr(renders, "SHARD", 32)
    monkeypatch.setattr(fit, "_LEAST", 32)
    for part, batch in (
        (autoencoder, "_BATCH"),
        (detector, "_BATCH"),
        (denoiser, "BATCH"),
        (denoiser, "_TEXT_BATCH"),
    ):
        monkeypatch.setattr(part, batch, 16)
    monkeypatch.setattr(thread_count.os, "cpu_count", lambda: 1)


@pytest.mark.usefixtures("small")
def test_a_trained_storybook_loads_and_draws(tmp_path: Path) -> None:
    out, work = tmp_path / "out", tmp_path / "work"
    train_storybook(out, work, share=1e-9)
    hashes = json.loads((out / "hashes.json").read_text())
    files = {p for p in out.rglob("*") if p.suffix in (".json", ".safetensors") and p.name != "hashes.json"}
    assert set(hashes) == {p.relative_to(out).as_posix() for p in files}
    assert {p.stat().st_mode for p in out.rglob("*.*") if p.is_file()} == {
        (out / "hashes.json").stat().st_mode
    }
    assert not any(str(tmp_path) in path.read_text() for path in out.rglob("*.json"))
    assert (out / "curves.png").stat().st_size > 1000
    pipe = safelight.load_pipeline(out, device="cpu")
    pipe.set_progress_bar_config(disable=True)
    image = pipe("a dog", num_inference_steps=2).images[0]
    assert image.size == (64, 64)
    parameters = sum(p.numel() for m in (pipe.vae, pipe.text_encoder, pipe.unet) for p in m.parameters())
    assert parameters <= 12_000_000

    before = {p: p.stat().st_mtime_ns for p in work.rglob("*.npy")}
    train_storybook(out, work, share=1e-9)
    assert {p: p.stat().st_mtime_ns for p in work.rglob("*.npy")} == before, "nothing is drawn twice"

    further = tmp_path / "further"
    train_storybook(further, tmp_path / "work-2", share=1e-9, start=out)
    later = json.loads((further / "hashes.json").read_text())
    changed = {name.split("/")[0] for name in hashes if later[name] != hashes[name]}
    assert changed == {"text_encoder", "unet"}


@pytest.mark.usefixtures("small")
def test_a_trained_detector_detects(tmp_path: Path) -> None:
    train_detector("filter", tmp_path / "filter.onnx", tmp_path / "work", share=1e-9)
    seen = Detector(tmp_path / "filter.onnx").detect([Storybook(0).scene(0).image])[0]
    assert set(seen.objects) == set(LABELS)
    assert sum(seen.places.values()) == pytest.approx(1, abs=1e-4)
