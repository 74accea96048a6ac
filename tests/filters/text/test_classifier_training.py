"""The whole training of the prompt classifier, on a tiny encoder and a budget of seconds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

from safelight.attacks.spelling import misspell_somehow
from safelight.concurrency import thread_count
from safelight.errors import ModelError, RequestError
from safelight.evaluation.borderline import borderline_prompts
from safelight.experiments.prompt_classifier import evaluate_prompt_classifier
from safelight.filters.text.classifier import PromptClassifier
from safelight.filters.text.training import classifier as training
from safelight.filters.text.training.encoder import find_encoder
from safelight.filters.text.training.examples import Examples, PromptTokenizer
from safelight.filters.text.training.folds import Fold, folds
from safelight.filters.text.training.grammar import Text, generate_texts
from safelight.filters.text.training.network import CATEGORIES, PromptNetwork, export_onnx

MakeTokenizer = Callable[[list[str]], Tokenizer]

SOURCES = {"coprov2_train": 90, "six_cd": 90, "coco_captions": 60}
OURS = {"violence": "violence", "sexual.explicit": "sexual", "self_harm": "self-harm", "hate": "hate"}


def corpus() -> list[dict[str, object]]:
    rows, texts = [], generate_texts(5)
    for source, count in SOURCES.items():
        benign_only = source == "coco_captions"
        wanted = (text for text in texts if not (benign_only and text.categories))
        rows += [
            {
                "prompt": f"{source} {text.prompt}",
                "label": "unsafe" if text.categories else "safe",
                "categories": [OURS.get(category, "other") for category in text.categories],
                "source": source,
            }
            for text in islice(wanted, count)
        ]
    return rows


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.parquet"
    pq.write_table(pa.Table.from_pylist(corpus()), path)
    return path


@pytest.fixture
def encoder(tmp_path: Path, make_tokenizer: MakeTokenizer) -> Path:
    folder = tmp_path / "encoder"
    words = sorted({word for text in islice(generate_texts(1), 300) for word in text.prompt.lower().split()})
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words) + 4,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    make_tokenizer(words).save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_count.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(training, "_BATCH_SIZE", 8)


@pytest.mark.usefixtures("one_process")
def test_a_trained_classifier_is_calibrated_and_goes_on_where_it_was_stopped(
    data: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = (data, encoder, tmp_path / "out", tmp_path / "work", misspell_somehow, 0.004)
    training.train_prompt_classifier(*order)
    classifier = PromptClassifier(tmp_path / "out")
    assert classifier.labels == set(CATEGORIES)
    again = classifier.probabilities(["a man with a knife"])
    results = evaluate_prompt_classifier(data, encoder, tmp_path / "results", tmp_path / "work", 0.004)
    assert json.loads((tmp_path / "results" / "results.json").read_text())["tables"] == results["tables"]
    cells = {row["group"] for row in results["tables"]["classifier"]}
    assert "six_cd / scary but harmless" in cells
    assert "frozen encoder: mean AUROC" in results["figures"]
    assert all(0 <= value <= 1 for name, value in results["figures"].items() if "AUROC" in name)

    def trained_again(*_: object) -> None:
        raise AssertionError("what was done is done again")

    monkeypatch.setattr(training, "_train_head", trained_again)
    training.train_prompt_classifier(*order)
    assert PromptClassifier(tmp_path / "out").probabilities(["a man with a knife"]) == pytest.approx(again)


def test_every_family_with_harm_is_left_out_once() -> None:
    texts = [
        Text("a", frozenset({"violence"}), "one"),
        Text("b", frozenset(), "one"),
        Text("c", frozenset({"hate"}), "two"),
        Text("d", frozenset(), "captions"),
    ]
    assert list(folds(texts)) == [Fold(0, "one", "captions"), Fold(1, "two", "captions")]
    assert [fold.holds_out(text) for fold in folds(texts) for text in texts] == [
        True,
        True,
        False,
        True,
        False,
        False,
        True,
        True,
    ]
    weak = [Text("e", frozenset({""}), "i2p"), Text("f", frozenset(), "more/captions")]
    assert [fold.name for fold in folds([*texts, *weak])] == [
        "0-without-one-captions",
        "1-without-two-more-captions",
        "2-without-i2p-captions",
    ]
    with pytest.raises(RequestError, match="two sources"):
        list(folds(texts[:2]))


def test_calibration_is_right_where_15_percent_are_harmful() -> None:
    # At logit -1, 1 of 10 is harmful and 9 of 10 benign; at +1 the other way round. With 15 % harmful, log
    # odds are ln(0.15 / 0.85) less or more ln 9.
    logits = np.repeat([-1.0, 1.0], 10)
    harmful = np.array([True] + [False] * 9 + [True] * 9 + [False])
    found = training._fit_logistic(np.stack([logits, np.zeros(20)], 1), harmful, np.ones(20))
    assert found.slope == pytest.approx(math.log(9), abs=1e-3)
    assert found.shift == pytest.approx(math.log(0.15 / 0.85), abs=1e-3)
    by_words = training._fit_logistic(np.stack([np.zeros(20), (logits + 1) / 2], 1), harmful, np.ones(20))
    assert by_words.words == pytest.approx(2 * math.log(9), abs=1e-3)
    assert by_words.shift == pytest.approx(math.log(0.15 / 0.85) - math.log(9), abs=1e-3)


def test_sides_are_drawn_alike_and_weak_labels_half_as_often(
    make_tokenizer: MakeTokenizer, tmp_path: Path
) -> None:
    make_tokenizer(["bad", "good", "0"]).save(str(tmp_path / "tokenizer.json"))
    harmful = [
        Text(f"bad {n}", frozenset({"hate"}), family)
        for family, count in (("big", 400), ("i2p", 400))
        for n in range(count)
    ]
    benign = [Text(f"good {n}", frozenset(), "big") for n in range(100)]
    examples = Examples(harmful + benign, PromptTokenizer(tmp_path), lambda text, _: text)
    assert examples._share == pytest.approx({("big", True): 1 / 3, ("i2p", True): 1 / 6, ("big", False): 0.5})
    _, mask, targets = examples.sample_batch(64, np.random.default_rng(0))
    assert mask.shape[0] == 64
    assert targets.shape == (64, 1 + len(CATEGORIES))
    assert 0.3 < targets[:, 0].mean() < 0.7
    weights = examples.weights(np.arange(900))
    assert weights.mean() == pytest.approx(1)
    assert weights[:400].sum() == pytest.approx(300)


def test_what_is_exported_says_what_the_network_says(encoder: Path, tmp_path: Path) -> None:
    import onnxruntime

    network = PromptNetwork.from_pretrained(encoder).eval()
    ids = torch.tensor([[2, 7, 8, 9, 3], [2, 11, 3, 0, 0]])
    mask = (ids > 0).long()
    with torch.no_grad():
        logits = network(ids, mask)
    harm, fit = torch.sigmoid(logits[:, :1]), torch.sigmoid(logits[:, 1:])
    expected = harm * torch.where(fit == fit.amax(1, keepdim=True), 1.0, fit)
    export_onnx(network, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    scores, weights = session.run(None, {"ids": ids.numpy(), "mask": mask.numpy()})
    assert np.allclose(scores, expected.numpy(), atol=0.02)
    assert np.allclose(weights[1, :3].mean(0), (logits[1, :1] + logits[1, 1:]).numpy(), atol=0.1)


def test_an_encoder_is_named_or_installed(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safelight.filters.text.training import encoder as module

    assert find_encoder(encoder) == encoder
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        find_encoder(tmp_path)
    monkeypatch.setattr(module, "_PACKAGE", "no_such_package")
    with pytest.raises(ModelError, match="--encoder FOLDER"):
        find_encoder()


def test_the_scary_set_shares_no_prompt_with_the_grammar() -> None:
    scary = borderline_prompts()
    assert len(scary) == len(set(scary)) > 200
    written = {text.prompt.lower() for text in islice(generate_texts(1), 20_000)}
    assert not [prompt for prompt in scary if prompt.lower() in written]
