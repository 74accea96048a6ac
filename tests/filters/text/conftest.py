"""Small but real prompt classifiers, made as the shipped one is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import BertConfig, BertModel

from safelight.filters.text.training.network import CATEGORIES, PromptNetwork, export_onnx
from safelight.models.files import write_hashes

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = ["a", "man", "with", "knife", "bread", "and", "dog", ",", "."]


def tokenizer(words: list[str]) -> Tokenizer:
    made = Tokenizer(WordPiece({word: i for i, word in enumerate(SPECIAL + words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return made


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[[list[str]], Tokenizer]:
    return tokenizer


@pytest.fixture(scope="session")
def knives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a classifier that only knows the word knife, which is violence and a little illegal.

    Its encoder has no layers, so that what each token adds can be worked out by hand: every token is a unit
    vector, which normalisation makes sqrt(7) there and -1 / sqrt(7) elsewhere.
    """
    folder = tmp_path_factory.mktemp("knives")
    config = BertConfig(
        vocab_size=16, hidden_size=8, num_hidden_layers=0, num_attention_heads=1, intermediate_size=8
    )
    encoder = BertModel(config, add_pooling_layer=False)
    embeddings = encoder.embeddings
    for part in (embeddings.position_embeddings, embeddings.token_type_embeddings):
        torch.nn.init.zeros_(part.weight)
    network = PromptNetwork(encoder).eval()
    with torch.no_grad():
        embeddings.word_embeddings.weight.zero_()
        embeddings.word_embeddings.weight[:, 1] = 1
        embeddings.word_embeddings.weight[len(SPECIAL) + WORDS.index("knife")] = torch.eye(8)[0]
        network.head.weight.zero_()
        network.head.bias.fill_(-4)
        network.head.weight[0, 0] = 14
        network.head.weight[1 + CATEGORIES.index("violence"), 0] = 20
        network.head.weight[1 + CATEGORIES.index("illegal"), 0] = 14
        network.head.bias[0] = 1
        network.head.bias[1 + CATEGORIES.index("violence")] = 6
        network.head.bias[1 + CATEGORIES.index("illegal")] = 1
    export_onnx(network, folder / "model.onnx")
    tokenizer(WORDS).save(str(folder / "tokenizer.json"))
    (folder / "classifier.json").write_text(json.dumps({"version": "7", "categories": CATEGORIES}))
    write_hashes(folder, "tokenizer.json", "classifier.json")
    return folder
