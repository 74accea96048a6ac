"""Distances between the outputs of an encoder, now and before training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safelight.alignment.text_encoder.encoder import Reading

if TYPE_CHECKING:
    from torch import Tensor

# Relative differences below this are attributed to rounding.
_ROUNDING = 1e-3


def distances(now: Reading, was: Reading) -> list[Tensor]:
    """Return the L2 distances of token embeddings, (n, positions), and of pooled outputs, (n, 1)."""
    return [(a.float() - b.float()).norm(dim=-1) for a, b in zip(now.parts, was.parts, strict=True)]


def cosines(now: Reading, was: Reading, constant: int = 0) -> list[Tensor]:
    """Return cosine similarities, shaped as ``distances``, without the first ``constant`` positions."""
    from torch.nn import functional

    words = slice(constant, None)
    both = zip(now.positions(words).parts, was.positions(words).parts, strict=True)
    return [functional.cosine_similarity(a.float(), b.float(), dim=-1) for a, b in both]


def relative(now: Reading, was: Reading) -> list[Tensor]:
    """Return ``distances`` relative to the norms before training; unlike cosines they depend on norms."""
    return [
        d / part.float().norm(dim=-1).clamp(min=1e-6)
        for d, part in zip(distances(now, was), was.parts, strict=True)
    ]


def differ(one: Reading, other: Reading) -> list[Tensor]:
    """Return which token embeddings differ, (n, positions), and which pooled outputs do, (n, 1)."""
    both = zip(one.parts, other.parts, strict=True)
    return [(a - b).float().norm(dim=-1) > _ROUNDING * a.float().norm(dim=-1) for a, b in both]


def remaining(now: Reading, was: Reading, counterpart: Reading) -> Tensor:
    """Return the share of each text's former meaning, relative to its counterpart, that remains.

    For the embeddings x now, u before training and s of the counterpart, it is the mean of

        max(0, (x - s)·(u - s) / |u - s|²)

    over the positions at which u and s differ. It is 1 where nothing changed, and 0 where x is at s or has no
    component in the direction from s to u.
    """
    shares = []
    for x, u, s in zip(now.parts, was.parts, counterpart.parts, strict=True):
        direction = (u - s).float()
        square = direction.square().sum(-1).clamp(min=1e-12)
        shares.append((((x - s).float() * direction).sum(-1) / square).clamp(min=0))
    return mean(shares, differ(was, counterpart))


def flat(reading: Reading) -> Tensor:
    """Return all outputs for each text as one vector, (n, D)."""
    import torch

    return torch.cat([part.float().flatten(1) for part in reading.parts], 1)


def mean(parts: Sequence[Tensor], where: Sequence[Tensor] = ()) -> Tensor:
    """Return the mean over token embeddings, averaged with the mean over pooled outputs.

    With ``where``, only the selected positions count.
    """
    import torch

    weights = [each.float() for each in where] or [torch.ones_like(part) for part in parts]
    both = zip(parts, weights, strict=True)
    return torch.stack([(part * weight).sum() / weight.sum().clamp(min=1) for part, weight in both]).mean()
