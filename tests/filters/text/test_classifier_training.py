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
from transformers import BertConfig, BertModel, MPNetConfig, MPNetModel

from safelight.attacks.spelling import misspell_somehow
from safelight.concurrency import thread_count
from safelight.errors import ModelError, RequestError
from safelight.evaluation.borderline import borderline_prompts
from safelight.experiments.prompt_classifier import evaluate_prompt_classifier
from safelight.filters.text.classifier import PromptClassifier
from safelight.filters.text.training import classifier as training
from safelight.filters.text.training.calibration_prompts import calibration_prompts
from safelight.filters.text.training.classifier import Recipe
from safelight.filters.text.training.encoder import find_encoder
from safelight.filters.text.training.examples import Examples
from safelight.filters.text.training.folds import Fold, folds
from safelight.filters.text.training.grammar import Text, generate_texts
from safelight.filters.text.training.network import CATEGORIES, PromptNetwork, export_onnx
from safelight.filters.text.training.states import TokenStates
from safelight.filters.text.training.targets import Targets
from safelight.filters.text.training.teacher import taught_targets
from safelight.filters.text.training.tokens import PromptTokenizer, pad
from safelight.filters.text.training.written import FAMILY as WRITTEN
from safelight.filters.text.training.written import read_written

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
def teacher(tmp_path: Path, make_tokenizer: MakeTokenizer) -> Path:
    """A tiny MPNet with random weights: enough to tell texts apart by their words."""
    folder = tmp_path / "teacher"
    words = sorted({word for text in islice(generate_texts(1), 300) for word in text.prompt.lower().split()})
    torch.manual_seed(1)
    config = MPNetConfig(
        vocab_size=len(words) + 4,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
    )
    MPNetModel(config, add_pooling_layer=False).save_pretrained(folder)
    make_tokenizer(words).save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def few_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few of the packaged prompts, because every one is scored when their family is held out."""
    monkeypatch.setattr(training, "read_written", lambda: islice(read_written(), 120))


@pytest.fixture
def few_calibrating(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every twentieth prompt, because all of them are scored by the classifier of every fold."""
    monkeypatch.setattr(training, "calibration_prompts", lambda: calibration_prompts()[::20])


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_count.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(training, "_BATCH_SIZE", 8)


@pytest.mark.usefixtures("one_process", "few_written", "few_calibrating")
def test_a_trained_classifier_is_calibrated_and_goes_on_where_it_was_stopped(
    data: Path, encoder: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(data, encoder, misspell_somehow, teacher, share=0.004)
    order = (recipe, tmp_path / "out", tmp_path / "work")
    training.train_prompt_classifier(*order)
    classifier = PromptClassifier(tmp_path / "out")
    assert classifier.labels == set(CATEGORIES)
    again = classifier.probabilities(["a man with a knife"])
    results = evaluate_prompt_classifier(recipe, tmp_path / "results", tmp_path / "work")
    assert json.loads((tmp_path / "results" / "results.json").read_text())["tables"] == results["tables"]
    cells = {row["group"] for row in results["tables"]["classifier"]}
    assert {"six_cd / scary but harmless", "written / scary but harmless"} <= cells
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
    weak += [Text("g", frozenset({"hate"}), "hatecheck")]
    assert [fold.name for fold in folds([*texts, *weak])] == [
        "0-without-one-captions",
        "1-without-two-more-captions",
    ]
    with pytest.raises(RequestError, match="two sources"):
        list(folds(texts[:2]))


def test_prompts_to_calibrate_on_are_in_no_training() -> None:
    texts = calibration_prompts()
    assert {text.group for text in texts} == {"harmful", "ordinary", "scary", "mixed"}
    assert all(bool(text.categories) == (text.group == "harmful") for text in texts)
    assert {category for text in texts for category in text.categories} == set(CATEGORIES)
    written = {each.text.prompt.lower() for each in read_written()}
    assert [text.prompt for text in texts if text.prompt.lower() in written] == []


def test_calibration_is_right_where_15_percent_are_harmful() -> None:
    # At logit -1, 1 of 10 is harmful and 9 of 10 benign; at +1 the other way round. With 15 % harmful, log
    # odds are ln(0.15 / 0.85) less or more ln 9.
    logits = np.repeat([-1.0, 1.0], 10)
    harmful = np.array([True] + [False] * 9 + [True] * 9 + [False])
    found = training._fit_logistic(np.stack([logits, np.zeros(20)], 1), harmful)
    assert found.slope == pytest.approx(math.log(9), abs=1e-3)
    assert found.shift == pytest.approx(math.log(0.15 / 0.85), abs=1e-3)
    by_words = training._fit_logistic(np.stack([np.zeros(20), (logits + 1) / 2], 1), harmful)
    assert by_words.words == pytest.approx(2 * math.log(9), abs=1e-3)
    assert by_words.shift == pytest.approx(math.log(0.15 / 0.85) - math.log(9), abs=1e-3)


def test_sides_are_drawn_alike_and_texts_that_are_no_prompts_half_as_often() -> None:
    harmful = [
        Text(f"bad {n}", frozenset({"hate"}), family)
        for family, count in (("big", 400), ("hatecheck", 400))
        for n in range(count)
    ]
    benign = [Text(f"good {n}", frozenset(), "big") for n in range(100)]
    texts = harmful + benign
    labels = Targets.from_labels(texts)
    examples = Examples(texts, labels)
    shares = {("big", True): 1 / 3, ("hatecheck", True): 1 / 6, ("big", False): 0.5}
    assert examples._share == pytest.approx(shares)
    sampled = examples.sample(64, np.arange(900), 5, np.random.default_rng(0))
    assert sampled.shape == (64,)
    assert sampled.max() - sampled.min() < 300  # texts of similar length
    longer = examples.sample(64, np.arange(900), 11, np.random.default_rng(0))
    assert longer.min() >= sampled.max()
    assert labels.of(sampled).categories.shape == (64, len(CATEGORIES))
    weights = examples.weights(np.arange(900))
    assert weights.mean() == pytest.approx(1)
    assert weights[:400].sum() == pytest.approx(300)


def test_labels_that_the_embeddings_contradict_are_left_out_and_categories_are_renamed() -> None:
    # One direction tells harm, one violence and one hate. The source calls everything hate, and three of its
    # texts have the wrong label.
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=2000)  # 0 harmless, 1 violence, 2 hate
    names = [frozenset(), frozenset({"violence"}), frozenset({"hate"})]
    texts = [Text(str(row), names[kind], WRITTEN, precise=True) for row, kind in enumerate(truth[:1000])]
    source = [frozenset({"hate"}) if kind else frozenset[str]() for kind in truth[1000:]]
    wrong = [next(row for row in range(1000) if truth[1000 + row] == kind) for kind in (0, 1, 2)]
    for row in wrong:
        source[row] = frozenset() if source[row] else frozenset({"hate"})
    texts += [Text(str(1000 + row), labels, "source") for row, labels in enumerate(source)]
    embedded = (3 * np.eye(3)[truth] + rng.normal(0, 0.1, (2000, 3))).astype(np.float32)
    labels = Targets.from_labels(texts)
    taught = taught_targets(Examples(texts, labels), embedded)
    # A wrong label is left out only where the embeddings are as sure of the other label as they usually are.
    left_out = set(np.flatnonzero(~taught.kept).tolist())
    assert left_out <= {1000 + row for row in wrong}
    assert len(left_out) >= 2
    violent = CATEGORIES.index("violence")
    renamed = [1000 + row for row, kind in enumerate(truth[1000:]) if kind == 1 and row not in wrong]
    assert (taught.categories[renamed].argmax(1) == violent).all()
    assert (taught.weights[renamed] == 0.5).all()
    assert np.abs(taught.harm - labels.harm)[taught.kept].max() < 0.4


def test_token_states_are_kept_and_give_what_the_network_gives(encoder: Path, tmp_path: Path) -> None:
    prompts = [text.prompt for text in islice(generate_texts(3), 40)]

    def shout(text: str, _: object) -> str:
        return f"{text} a a"

    states = TokenStates.of(prompts, encoder, shout, tmp_path / "work")
    network = PromptNetwork.from_pretrained(encoder).eval()
    ids, mask = pad([PromptTokenizer(encoder).ids(prompt) for prompt in prompts])
    assert states.lengths.tolist() == mask.sum(1).tolist()
    with torch.inference_mode():
        kept = network.upper(*states.batch(range(40)))
        assert torch.allclose(kept, network(ids, mask), atol=0.01)
    misspelt = [row for row in range(40) if states.misspelt[row] >= 0]
    assert 4 <= len(misspelt) <= 22
    versions = np.array([states.versions(range(40), np.random.default_rng(seed)) for seed in range(40)])
    assert {row for row in range(40) if (versions[:, row] != row).any()} == set(misspelt)
    assert 0.3 < (versions[:, misspelt] != misspelt).mean() < 0.7

    def other(*_: object) -> str:
        raise AssertionError("what is kept is computed again")

    again = TokenStates.of(prompts, encoder, other, tmp_path / "work")
    assert np.array_equal(again.values, states.values)


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
