"""Training a storybook denoiser on any images and captions."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

import safelight
from safelight.concurrency import thread_count
from safelight.errors import ModelError, RequestError
from safelight.storybook import Storybook
from safelight.storybook.training import from_data
from safelight.storybook.training.from_data import train_from_data
from safelight.training.encoded import Data, Example
from safelight.training.loop import TrainingLoop


@pytest.fixture(autouse=True)
def _one_process_with_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_count.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(from_data, "_BATCH", 8)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _examples(count: int = 40) -> Iterator[Example]:
    for scene in Storybook(3).scenes(count):
        yield Example(_png(scene.image), scene.captions[0])


def test_only_the_denoiser_is_new(tmp_path: Path) -> None:
    assert train_from_data(Data(_examples(), "forty"), tmp_path / "out", tmp_path / "work", images=32) == 40
    hashes = json.loads((tmp_path / "out" / "hashes.json").read_text())
    assert any(name.startswith("unet/") for name in hashes)
    trained, shipped = (
        safelight.load_pipeline(name, device="cpu") for name in (tmp_path / "out", "storybook")
    )
    for part in ("text_encoder", "vae"):
        both = (getattr(pipe, part).state_dict() for pipe in (trained, shipped))
        assert all(
            torch.equal(a.float(), b.float()) for a, b in zip(*(s.values() for s in both), strict=True)
        )
    assert not torch.equal(trained.unet.conv_in.weight.float(), shipped.unet.conv_in.weight.float())
    assert (tmp_path / "out" / "curves.png").stat().st_size > 1000


def test_it_resumes_with_the_same_data_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_from_data(Data(_examples(), "forty"), tmp_path / "whole", tmp_path / "a", images=24)
    saves = []
    real, plan = TrainingLoop._save, from_data.from_scratch

    def stopping(self: TrainingLoop) -> None:
        real(self)
        saves.append(self.steps_done)
        if len(saves) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(from_data, "from_scratch", lambda *a, **k: plan(*a, **{**k, "checkpoint_every": 1}))
    monkeypatch.setattr(TrainingLoop, "_save", stopping)
    with pytest.raises(ModelError, match="stopped after 2 of 3 steps; it can resume from"):
        train_from_data(Data(_examples(), "forty"), tmp_path / "out", tmp_path / "b", images=24)
    train_from_data(Data(_examples(), "forty"), tmp_path / "out", tmp_path / "b", images=24)
    weights = [
        next((tmp_path / name / "unet").glob("*.safetensors")).read_bytes() for name in ("whole", "out")
    ]
    assert weights[0] == weights[1]
    with pytest.raises(RequestError, match="has other data in it"):
        train_from_data(Data(_examples(30), "thirty"), tmp_path / "out", tmp_path / "b", images=24)
