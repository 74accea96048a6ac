"""Every packaged work of others has its origin and licence beside it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import safelight

FILTERS = Path(safelight.__file__).parent / "filters"
TEXT = FILTERS / "text"
CLASSIFIER = TEXT / "classifiers" / "general"
NSFWJS = FILTERS / "image" / "classifiers" / "nsfwjs"
ROOT = Path(__file__).parents[1]
COMMON = 21_001


def test_common_words_are_where_their_licence_says() -> None:
    """In the order of the vocabulary; only what comes after them is from elsewhere."""
    vocabulary: dict[str, int] = json.loads((CLASSIFIER / "tokenizer.json").read_text("utf-8"))["model"][
        "vocab"
    ]
    words = (TEXT / "words.txt").read_text("utf-8").split()
    places = [vocabulary[word] for word in words[:COMMON]]
    assert places == sorted(places)
    assert all(word.isascii() and word.isalpha() for word in words)
    rest = {word for word in vocabulary if word.isascii() and word.isalpha()} - set(words)
    assert (len(rest), max(map(len, rest))) == (744, 3)
    assert "Copyright 2018 The Google AI Language Team Authors" in (TEXT / "words.md").read_text("utf-8")


def test_rare_words_carry_their_licence() -> None:
    head = (TEXT / "rare_words.txt").read_text("utf-8")[:1000]
    assert "SCOWL" in head
    assert "Permission to use, copy, modify, distribute and sell these word lists" in head


def test_the_encoder_s_licence_is_beside_its_weights() -> None:
    assert "Apache License" in (CLASSIFIER / "LICENSE").read_text("utf-8")
    notice = (CLASSIFIER / "NOTICE").read_text("utf-8")
    for who in ("UKP", "Copyright (c) Microsoft Corporation", "Copyright 2018 The Google AI Language Team"):
        assert who in notice


def test_the_licences_of_nsfwjs_are_beside_its_weights() -> None:
    licence = (NSFWJS / "LICENSE").read_text("utf-8")
    assert "Permission is hereby granted, free of charge" in licence
    for who in ("2019 Infinite Red, Inc.", "2020 The nsfw_model Developers"):
        assert f"Copyright (c) {who}" in licence
    assert "Apache License" in (NSFWJS / "NOTICE").read_text("utf-8")


def test_licences_and_cards_are_part_of_the_distribution() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-data"]
    assert {"LICENSE", "NOTICE", "*.md"} <= set(data["*"])
