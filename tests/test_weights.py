"""One hash identifies the weights of a model."""

from __future__ import annotations

from typing import Any

import torch

from safelight.models.weights import half_precision_sha256, weights_sha256


def test_the_hash_of_the_weights_tells_one_changed_number(pipe: Any) -> None:
    before = weights_sha256(pipe)
    assert weights_sha256(pipe) == before
    parameter = next(pipe.unet.parameters())
    with torch.no_grad():
        kept = parameter.flatten()[0].item()
        parameter.view(-1)[0] = kept + 1
        changed = weights_sha256(pipe)
        parameter.view(-1)[0] = kept
    assert changed != before
    assert weights_sha256(pipe) == before


def test_precision_makes_no_difference_to_the_half_hash() -> None:
    whole = {"b": torch.randn(3, 2), "a": torch.randn(4)}
    half = {"a": whole["a"].half(), "b": whole["b"].half()}
    assert (
        half_precision_sha256(whole)
        == half_precision_sha256(half)
        == half_precision_sha256({n: t.float() for n, t in half.items()})
    )
    assert half_precision_sha256({**whole, "a": whole["a"] + 0.1}) != half_precision_sha256(whole)
    assert half_precision_sha256({"a": whole["a"].view(2, 2), "b": whole["b"]}) != half_precision_sha256(
        whole
    )
    assert half_precision_sha256({"c": whole["a"], "b": whole["b"]}) != half_precision_sha256(whole)
