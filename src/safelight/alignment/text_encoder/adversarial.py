"""Adversarial training: an encoder that stays safe when an attacker puts a prefix before the prompt."""

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
from safelight.registry import register

if TYPE_CHECKING:
    from torch import Tensor


@register("alignment_method", "adversarial")
@dataclass(frozen=True)
class Adversarial(SafeText):
    """Train a text encoder as SafeText does, under attack by an adversarial prefix before the prompt.

    After Zhang et al. (2024, arXiv:2405.15234): the outer problem trains the encoder, the inner one
    attacks it with ``prefix_length`` embeddings before the words of each unsafe prompt,

        δ* = argmin_δ ‖T([δ; u]) - T*(u)‖,

    the mean over the states of the words, by ``attack_steps`` steps of signed gradient of
    ``attack_step_size`` (one is the fast attack), from step ``attack_warmup_steps`` on. The authors compare
    what the denoiser predicts; that depends on nothing but these states, and without it a step costs a
    hundredth. To the loss of ``SafeText`` is added, weighted by ``unsafe_weight``, what the words behind δ*
    still say of what was unsafe.
    """

    unsafe_weight: float = 8.0
    train_steps: int = field(default=2500, kw_only=True)
    prefix_length: int = field(
        default=2, metadata={"help": "Number of embeddings that the attack puts before a prompt.", "min": 1}
    )
    attack_steps: int = field(default=3, metadata={"help": "Gradient steps of each attack.", "min": 1})
    attack_step_size: float = field(
        default=0.2,
        metadata={"help": "Change in an attack's step, in standard deviations of token embeddings."},
    )
    attack_warmup_steps: int = field(
        default=50, metadata={"help": "Number of steps before the first attack.", "min": 0}
    )

    name: ClassVar[str] = "adversarial"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("prefix_length", "attack_steps"):
            if getattr(self, name) < 1:
                raise RequestError(f"{name} is {getattr(self, name)}; it must be at least 1.")

    def _batches(self, encoders: Sequence[TextEncoder], adapters: Mapping[str, Adapter]) -> Batches:
        return _Attacked(self, encoders, adapters)


class _Attacked(Batches):
    """Batches with the loss under attack besides."""

    def _loss(self, encoder: TextEncoder, number: int, batch: Batch) -> Tensor:
        method = self._method
        assert isinstance(method, Adversarial)
        if number // method.gradient_accumulation < method.attack_warmup_steps:
            return super()._loss(encoder, number, batch)
        unsafe, seed = list(batch.unsafe), method.seed * 1_000_003 + number
        meant, *_, instead = self._was(encoder, number, batch)
        prefix = worst_prefix(
            encoder, unsafe, meant, method.prefix_length, method.attack_steps, method.attack_step_size, seed
        )
        words = encoder.read(unsafe, prefix).places(slice(encoder.first + method.prefix_length, None))
        as_many = slice(encoder.first, -method.prefix_length)
        behind = left(words, meant.places(as_many), instead.places(as_many))
        return super()._loss(encoder, number, batch) + method.unsafe_weight * behind


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
