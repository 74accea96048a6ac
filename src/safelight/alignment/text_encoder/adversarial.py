"""Adversarial training: an encoder that stays safe behind what an attacker puts before the words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from safelight.alignment.delta.adapter import Adapter
from safelight.alignment.text_encoder.batch import Batch
from safelight.alignment.text_encoder.distances import apart, left, mean
from safelight.alignment.text_encoder.encoder import Reading, TextEncoder
from safelight.alignment.text_encoder.method import Batches
from safelight.alignment.text_encoder.safetext import SafeText
from safelight.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Adversarial(SafeText):
    """After Zhang et al. (2024, arXiv:2405.15234): the outer problem trains the encoder, the inner one
    attacks it with ``prefix`` embeddings before the words of each unsafe prompt,

        δ* = argmin_δ ‖T([δ; u]) - T*(u)‖,

    the mean over the states of the words, by ``inner_steps`` steps of signed gradient of ``inner_rate`` (one
    is the fast attack), from the ``warmup``-th step on. The authors compare what the denoiser predicts; that
    depends on nothing but these states, and without it a step costs a hundredth. To the loss of ``SafeText``
    is added, ``weight`` times, what the words behind δ* still say of what was unsafe.
    """

    weight: float = 8.0
    steps: int = field(default=2500, kw_only=True)
    prefix: int = 2
    inner_steps: int = 3
    inner_rate: float = 0.2
    warmup: int = 50

    name: ClassVar[str] = "adversarial"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("prefix", "inner_steps"):
            if getattr(self, name) < 1:
                raise RequestError(f"{name} is {getattr(self, name)}; it must be at least 1.")

    def _batches(self, encoders: Sequence[TextEncoder], adapters: Mapping[str, Adapter]) -> Batches:
        return _Attacked(self, encoders, adapters)


class _Attacked(Batches):
    """Batches with the loss under attack besides."""

    def _loss(self, encoder: TextEncoder, number: int, batch: Batch) -> Tensor:
        method = self._method
        assert isinstance(method, Adversarial)
        if number // method.accumulate < method.warmup:
            return super()._loss(encoder, number, batch)
        unsafe, seed = list(batch.unsafe), method.seed * 1_000_003 + number
        meant, *_, instead = self._was(encoder, number, batch)
        prefix = worst_prefix(
            encoder, unsafe, meant, method.prefix, method.inner_steps, method.inner_rate, seed
        )
        words = encoder.read(unsafe, prefix).places(slice(encoder.first + method.prefix, None))
        as_many = slice(encoder.first, -method.prefix)
        behind = left(words, meant.places(as_many), instead.places(as_many))
        return super()._loss(encoder, number, batch) + method.weight * behind


def worst_prefix(
    encoder: TextEncoder,
    texts: Sequence[str],
    wanted: Reading,
    length: int = 2,
    steps: int = 10,
    rate: float = 0.2,
    seed: int = 0,
) -> Tensor:
    """For each text, (n, length, C): what brings its words' states nearest to those ``wanted``.

    It begins with embeddings of tokens drawn from ``seed``; each step moves every value by ``rate`` times
    their spread, along the sign of the gradient.
    """
    import torch

    table = encoder.embeddings.detach().float()
    random = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(table), (len(texts), length), generator=random)
    prefix, step = table[drawn.to(table.device)].clone(), rate * table.std()
    for _ in range(steps):
        prefix.requires_grad_()
        words = encoder.read(texts, prefix).places(slice(encoder.first + length, None))
        distance = mean(apart(words, wanted.places(slice(encoder.first, -length))))
        (gradient,) = torch.autograd.grad(distance * len(texts), prefix)
        prefix = (prefix - step * gradient.sign()).detach()
    return prefix
