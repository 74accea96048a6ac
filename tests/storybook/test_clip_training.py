from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from safelight.clip import load_clip
from safelight.concurrency import thread_count
from safelight.storybook.scene import Storybook
from safelight.storybook.training import renders
from safelight.storybook.training.clip import (
    Batches,
    TextTower,
    _Training,
    export,
    fits,
    load_tokenizer,
    train_clip,
)
from safelight.storybook.training.renders import Truth
from safelight.storybook.vocabulary import LABELS, PLACES, STYLES

_FACTS = np.array([*LABELS, *PLACES, *STYLES])
_BOX = (0.0, 0.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def truths() -> list[Truth]:
    return [renders._truth(scene) for scene in Storybook(8).scenes(600)]


def test_a_batch_is_made_of_scenes_that_share_place_style_and_an_object(truths: list[Truth]) -> None:
    rows = Batches(truths).rows(np.random.default_rng(0))
    assert len(rows) == 128
    for group in rows.reshape(-1, 4):
        chosen = [truths[row] for row in group]
        assert len({(truth.place, truth.style) for truth in chosen}) == 1
        assert set.intersection(*(set(truth.objects) for truth in chosen))


def test_what_a_text_states_is_true_of_its_image(truths: list[Truth]) -> None:
    batches, rng, rows = Batches(truths), np.random.default_rng(0), np.arange(600)
    texts, stated = batches.texts(rows, rng)
    assert fits(stated, batches.true(rows)).diagonal().all()
    short = [i for i in rows if stated[i].sum() == 1]
    assert 120 < len(short) < 240
    label = _FACTS[stated[short[0]]][0]
    assert label in truths[short[0]].objects
    for i in set(rows) - set(short):
        assert texts[i] in truths[i].captions
        came_along = truths[i].objects[len(truths[i].objects) - truths[i].unnamed :]
        assert not set(came_along) & set(_FACTS[stated[i]])


def test_a_text_that_is_true_of_another_image_is_not_a_negative_for_it() -> None:
    dog = Truth(("dog",), (_BOX,), "park", "cartoon", ("a dog in the park",))
    both = Truth(("dog", "cat"), (_BOX, _BOX), "park", "cartoon", ("a dog next to a cat in the park",))
    batches, rows = Batches([dog, both]), np.arange(2)
    true = batches.true(rows)
    assert fits(true, true).tolist() == [[True, False], [True, True]]


def test_the_loss_counts_negatives_only() -> None:
    """Cosines are [[1, 0], [1, 1]], and the scale is 1/0.07; text 0 is true of both images.

    By hand, where a negative at cosine 0 costs ``far`` and one at cosine 1 costs log 2: of the four rows and
    columns two have a far one, and without the truth of text 0 the other two have a near one.
    """
    training = _Training(10)

    class Given(torch.nn.Module):
        def __init__(self, rows: list[list[float]]) -> None:
            super().__init__()
            self.rows = torch.tensor(rows)

        def forward(self, _: torch.Tensor) -> torch.Tensor:
            return self.rows

    training.image, training.text = Given([[1, 0], [1, 1]]), Given([[1, 0], [0, 1]])  # type: ignore[assignment]
    nothing = torch.zeros(2, 1)
    alone = training.loss(nothing, nothing, torch.tensor([[True, False], [True, True]]))
    far = np.log1p(np.exp(-1 / 0.07))
    assert alone.item() == pytest.approx(2 * far / 4, abs=1e-6)
    strict = training.loss(nothing, nothing, torch.eye(2, dtype=torch.bool))
    assert strict.item() == pytest.approx((2 * far + 2 * np.log(2)) / 4, abs=1e-6)


def test_what_follows_the_end_of_a_text_does_not_matter() -> None:
    torch.manual_seed(0)
    tower = TextTower(20).eval()
    short, filled = torch.tensor([[3, 5, 19]]), torch.tensor([[3, 5, 19, 19, 7]])
    assert torch.allclose(tower(short), tower(filled), atol=1e-6)
    assert not torch.allclose(tower(short), tower(torch.tensor([[5, 3, 19]])), atol=1e-3)


def test_the_exported_networks_say_what_the_trained_ones_do(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = load_tokenizer()
    training = _Training(tokenizer.get_vocab_size()).eval()
    export(training, tokenizer, tmp_path / "clip")
    model = load_clip(tmp_path / "clip")
    scenes = list(Storybook(2).scenes(3))
    pixels = torch.from_numpy(np.stack([np.asarray(s.image, np.float32) for s in scenes])) / 127.5 - 1
    texts = ["a dog", "Ａ ＫＮＩＦＥ 🐈", "a man and a dog " * 20]
    with torch.inference_mode():
        images = training.image(pixels.permute(0, 3, 1, 2))
        read = [training.text(torch.tensor([tokenizer.encode(text).ids]))[0] for text in texts]
    np.testing.assert_allclose(model.embed_images([s.image for s in scenes]), images, rtol=0, atol=3e-3)
    np.testing.assert_allclose(model.embed_texts(texts), torch.stack(read), rtol=0, atol=3e-3)
    assert model.scale == pytest.approx(1 / 0.07, abs=1e-3)


def test_the_whole_training_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renders, "SHARD", 256)
    monkeypatch.setattr(thread_count.os, "cpu_count", lambda: 1)
    train_clip(tmp_path / "clip", tmp_path / "work", share=1e-9)
    model = load_clip(tmp_path / "clip")
    rows = model.embed_texts(["a dog", ""])
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 1], abs=1e-5)
    size = sum(path.stat().st_size for path in (tmp_path / "clip").glob("*.onnx"))
    assert size <= 2_000_000
