"""How far what texts mean is from what they meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safelight.alignment.text_encoder.encoder import Reading

if TYPE_CHECKING:
    from torch import Tensor


def apart(now: Reading, was: Reading) -> list[Tensor]:
    """The L2 distance of each state, (n, places), and of each pooled text, (n, 1)."""
    return [(a.float() - b.float()).norm(dim=-1) for a, b in zip(now.parts, was.parts, strict=True)]


def cosines(now: Reading, was: Reading, constant: int = 0) -> list[Tensor]:
    """As ``apart``; without the first ``constant`` states, which are no words."""
    from torch.nn import functional

    words = slice(constant, None)
    both = zip(now.places(words).parts, was.places(words).parts, strict=True)
    return [functional.cosine_similarity(a.float(), b.float(), dim=-1) for a, b in both]


def flat(reading: Reading) -> Tensor:
    """All states and the pooled text of each as one vector, (n, D)."""
    import torch

    return torch.cat([part.float().flatten(1) for part in reading.parts], 1)


def mean(parts: Sequence[Tensor]) -> Tensor:
    """Over the states, and over the pooled texts; then of both."""
    import torch

    return torch.stack([part.mean() for part in parts]).mean()
