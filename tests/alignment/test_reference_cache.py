"""The cache of embeddings from before a training, on a tiny encoder with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from pipelines import tiny_clip
from safelight.alignment.delta.adapter import Whole
from safelight.alignment.text_encoder import reference_cache as module
from safelight.alignment.text_encoder.encoder import Reading, TextEncoder
from safelight.alignment.text_encoder.reference_cache import ReferenceCache

TEXTS = (("a gun", "a dog", ""), ("a dog", "a cat", ""), ("a boat", "a gun", ""), ("a house", "a tree", ""))


class Counting(TextEncoder):
    """Knows what it was given to read."""

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe, "text_encoder")
        self.given: list[str] = []

    def read(self, texts: Sequence[str], prefix: torch.Tensor | None = None) -> Reading:
        self.given += texts
        return super().read(texts, prefix)


def _trained(pipe: Any, layers: int = 0) -> tuple[Counting, ReferenceCache, list[torch.Tensor]]:
    """An encoder that has learnt something, and what it read before."""
    encoder = Counting(pipe)
    with torch.no_grad():
        read = [TextEncoder(pipe, "text_encoder").read(texts).parts[0] for texts in TEXTS]
    adapter = Whole(encoder.module, encoder.trained(layers))
    with torch.no_grad():
        for parameter in adapter.parameters.values():
            parameter.add_(0.1)
    halfway = encoder.frozen_layers(layers)
    return encoder, ReferenceCache(encoder, adapter, lambda number: TEXTS[number], len(TEXTS), halfway), read


def test_it_reads_each_text_of_all_batches_once(made: Any) -> None:
    encoder, before, read = _trained(made)
    for number in (0, 1, 2, 3, 0):
        assert torch.allclose(before.read(number, TEXTS[number]).parts[0], read[number], atol=1e-5)
    every = {text for texts in TEXTS for text in texts}
    assert sorted(encoder.given[1:]) == sorted(every)  # the first tells how large a reading is
    with torch.no_grad():
        assert not torch.allclose(encoder.read(TEXTS[0]).parts[0], read[0], atol=1e-2)


@pytest.mark.parametrize("fitting", [7, 6, 5, 1])
def test_what_does_not_fit_is_read_in_parts(fitting: int, made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of seven different texts, three a batch."""
    encoder, before, read = _trained(made)
    monkeypatch.setattr(module, "_MAX_BYTES", fitting * before.of(["a dog"]).size_bytes)
    encoder.given.clear()
    for number in range(4):
        assert torch.allclose(before.read(number, TEXTS[number]).parts[0], read[number], atol=1e-5)
    wanted = {7: 7, 6: 4 + 5, 5: 12, 1: 12}
    assert len(encoder.given) - 1 == wanted[fitting]


@pytest.mark.parametrize("fitting", [7, 6, 1])
def test_a_batch_is_the_same_wherever_one_begins(
    fitting: int, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, before, _ = _trained(made)
    monkeypatch.setattr(module, "_MAX_BYTES", fitting * before.of(["a dog"]).size_bytes)
    whole = [before.read(number, TEXTS[number]).parts[0] for number in range(4)]
    again = ReferenceCache(before._encoder, before._adapter, before._texts, 4)
    assert torch.equal(again.read(3, TEXTS[3]).parts[0], whole[3])


def test_no_text_reads_as_nothing(made: Any) -> None:
    *_, before, _ = _trained(made)
    assert before.of(()).parts == ()


def test_layers_that_never_change_are_left_out(made: Any) -> None:
    """Outputs and gradients are the same, bit for bit."""
    made.text_encoder = tiny_clip(made.tokenizer).eval()
    encoder, before, read = _trained(made, layers=1)
    assert (encoder.frozen_layers(1), encoder.frozen_layers(0)) == (1, 0)
    trained = list(encoder.trained(1).values())
    for number in (1, 3):
        texts = TEXTS[number][:2]
        now, plain = before.read_now(number, texts).parts[0], encoder.read(texts).parts[0]
        assert torch.equal(now, plain)
        assert not torch.allclose(now, read[number][:2], atol=1e-2)
        one, other = (torch.autograd.grad(each.square().sum(), trained) for each in (now, plain))
        assert all(map(torch.equal, one, other))
        assert torch.allclose(before.read(number, TEXTS[number]).parts[0], read[number], atol=1e-5)
