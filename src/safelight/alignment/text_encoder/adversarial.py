"""Adversarial training of text encoders against prefixes that an attacker adds to the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from safelight.alignment.delta.adapter import Adapter
from safelight.alignment.text_encoder.batch import Batch
from safelight.alignment.text_encoder.distances import distances, mean, remaining
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
    """Train a text encoder by SafeText under adversarial attack. The attack puts adversarial embeddings
    before each unsafe prompt.

    This is the bilevel optimization of Zhang et al. (2024, arXiv:2405.15234): the outer problem trains the
    encoder T, and the inner problem attacks it with a prefix δ of ``prefix_length`` embeddings before the
    words of each unsafe prompt u,

        δ* = argmin_δ ‖T([δ; u]) - T*(u)‖,

    where T* is the frozen encoder and the norm is the mean over the words' embeddings. The attack takes
    ``attack_steps`` signed-gradient steps of ``attack_step_size`` (one step is the paper's fast attack), from
    training step ``attack_warmup_steps`` on. The authors compare predictions of the denoiser; as these depend
    only on the embeddings, comparing the embeddings instead takes a hundredth of the time. The loss is that
    of ``SafeText`` plus, weighted by ``unsafe_weight``, the unsafe meaning that remains in the words behind
    the prefix δ*.
    """

    unsafe_weight: float = 8.0
    train_steps: int = field(default=2500, kw_only=True)
    prefix_length: int = field(
        default=2,
        metadata={"help": "Number of token embeddings that the attack puts before a prompt.", "min": 1},
    )
    attack_steps: int = field(
        default=3, metadata={"help": "Number of gradient steps of each attack.", "min": 1}
    )
    attack_step_size: float = field(
        default=0.2,
        metadata={
            "help": "Change of each value in a gradient step of the attack, in standard deviations of the "
            "token embeddings."
        },
    )
    attack_warmup_steps: int = field(
        default=50, metadata={"help": "Number of optimizer steps before the first attack.", "min": 0}
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
    """Batches whose loss has an additional term for prompts under attack."""

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
        words = encoder.read(unsafe, prefix).positions(slice(encoder.first + method.prefix_length, None))
        as_many = slice(encoder.first, -method.prefix_length)
        behind = remaining(words, meant.positions(as_many), instead.positions(as_many))
        return super()._loss(encoder, number, batch) + method.unsafe_weight * behind


def worst_prefix(
    encoder: TextEncoder,
    texts: Sequence[str],
    wanted: Reading,
    length: int = 2,
    steps: int = 10,
    step_size: float = 0.2,
    seed: int = 0,
) -> Tensor:
    """Return an adversarial prefix for each text, (n, length, C).

    It minimizes the distance between the embeddings of the text's words and those in ``wanted``. It is
    initialized with the embeddings of random tokens; each step moves every value along the sign of the
    gradient by ``step_size`` standard deviations of the token embeddings.
    """
    import torch

    table = encoder.embeddings.detach().float()
    random = torch.Generator().manual_seed(seed)
    token_ids = torch.randint(len(table), (len(texts), length), generator=random)
    prefix, step = table[token_ids.to(table.device)].clone(), step_size * table.std()
    for _ in range(steps):
        prefix.requires_grad_()
        words = encoder.read(texts, prefix).positions(slice(encoder.first + length, None))
        distance = mean(distances(words, wanted.positions(slice(encoder.first, -length))))
        (gradient,) = torch.autograd.grad(distance * len(texts), prefix)
        prefix = (prefix - step * gradient.sign()).detach()
    return prefix
