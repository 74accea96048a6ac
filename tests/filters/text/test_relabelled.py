"""Corrected labels replace those of a source, by the hash of the prompt."""

from __future__ import annotations

import pytest

from safelight.filters.text.training import relabelled as module
from safelight.filters.text.training.grammar import Text
from safelight.filters.text.training.network import CATEGORIES
from safelight.filters.text.training.relabelled import digest, relabelled


def test_texts_get_their_corrected_labels_and_doubtful_ones_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = [
        Text("a quiet lake", frozenset({"violence"}), "source"),
        Text("two men fighting", frozenset(), "source"),
        Text("a strange look", frozenset({"hate"}), "source"),
        Text("a red car", frozenset(), "source"),
    ]
    labels = {digest("a quiet lake"): "-", digest("two men fighting"): "violence,harassment"}
    monkeypatch.setattr(module, "_labels", lambda: labels | {digest("a strange look"): "?"})
    assert list(relabelled(texts)) == [
        Text("a quiet lake", frozenset(), "source", precise=True),
        Text("two men fighting", frozenset({"violence", "harassment"}), "source", precise=True),
        Text("a red car", frozenset(), "source"),
    ]


def test_the_packaged_labels_are_hashes_and_categories() -> None:
    # SHA-256 of "a dog", by sha256sum.
    assert digest("a dog") == "7dbdf68ac0bb3482"
    labels = module._labels()
    assert len(labels) > 28_000
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in labels)
    named = {name for label in labels.values() for name in label.split(",")}
    assert named == {*CATEGORIES, "-", "?"}
