"""How far what texts mean is from what they meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safelight.alignment.text_encoder.encoder import Reading

if TYPE_CHECKING:
    from torch import Tensor

# What differs by less of its length is the same.
_ROUNDING = 1e-3


def apart(now: Reading, was: Reading) -> list[Tensor]:
    """The L2 distance of each state, (n, places), and of each pooled text, (n, 1)."""
    return [(a.float() - b.float()).norm(dim=-1) for a, b in zip(now.parts, was.parts, strict=True)]


def cosines(now: Reading, was: Reading, constant: int = 0) -> list[Tensor]:
    """As ``apart``; without the first ``constant`` states, which are no words."""
    from torch.nn import functional

    words = slice(constant, None)
    both = zip(now.places(words).parts, was.places(words).parts, strict=True)
    return [functional.cosine_similarity(a.float(), b.float(), dim=-1) for a, b in both]


def relative(now: Reading, was: Reading) -> list[Tensor]:
    """``apart`` as a share of the length that each had: unlike a cosine it sees lengths."""
    return [
        d / part.float().norm(dim=-1).clamp(min=1e-6)
        for d, part in zip(apart(now, was), was.parts, strict=True)
    ]


def differ(one: Reading, other: Reading) -> list[Tensor]:
    """Which states of two texts are not the same, (n, places), and which pooled texts, (n, 1)."""
    both = zip(one.parts, other.parts, strict=True)
    return [(a - b).float().norm(dim=-1) > _ROUNDING * a.float().norm(dim=-1) for a, b in both]


def left(now: Reading, was: Reading, instead: Reading) -> Tensor:
    """How much is left of what each text said and its counterpart ``instead`` does not: of states x, u and s

        max(0, (x - s)·(u - s) / |u - s|²),

    1 as it was, 0 at the counterpart, and beside or beyond it; the mean over the states in which the two
    differ.
    """
    shares = []
    for x, u, s in zip(now.parts, was.parts, instead.parts, strict=True):
        said = (u - s).float()
        square = said.square().sum(-1).clamp(min=1e-12)
        shares.append((((x - s).float() * said).sum(-1) / square).clamp(min=0))
    return mean(shares, differ(was, instead))


def flat(reading: Reading) -> Tensor:
    """All states and the pooled text of each as one vector, (n, D)."""
    import torch

    return torch.cat([part.float().flatten(1) for part in reading.parts], 1)


def mean(parts: Sequence[Tensor], where: Sequence[Tensor] = ()) -> Tensor:
    """Over the states, or those of them ``where`` it counts, and over the pooled texts; then of both."""
    import torch

    weights = [each.float() for each in where] or [torch.ones_like(part) for part in parts]
    both = zip(parts, weights, strict=True)
    return torch.stack([(part * counts).sum() / counts.sum().clamp(min=1) for part, counts in both]).mean()
