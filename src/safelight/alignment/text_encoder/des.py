"""DES: unsafe prompts are led to a safe meaning, as far from harm as it can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from safelight.alignment.text_encoder.distances import flat
from safelight.alignment.text_encoder.method import Read, TextEncoderMethod
from safelight.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DES(TextEncoderMethod):
    """Distorting Embedding Space (2025, arXiv:2501.18877). All states of a text are one vector: u_i of an
    unsafe prompt, s of a safe one and n of the concepts, as they were, and with a tilde as they are:

        t_i = s*_i - α n̂,   L_u = 1 - cos(ũ_i, t_i),   L_n = 1 - cos(ñ, no text),
        L_s = 1 - cos(s̃, s) + 1 - cos(s̃ + α n̂, s),   L = L_s + w (L_u + L_n).

    s*_i is the one least like u_i of the first ``bank`` safe prompts: of a batch it would be another each
    time, and what is learnt from many targets is their mean. ``alpha`` is α as a share of the mean length
    of safe prompts' vectors: the authors' 200 is 0.8 of Stable Diffusion 1.5's. ``weight`` is w, 7 : 3 as the
    authors weigh.
    """

    rate: float = field(default=1e-4, kw_only=True)
    alpha: float = 0.8
    weight: float = 7 / 3
    bank: int = 256

    name: ClassVar[str] = "des"
    reads_concepts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bank < 1:
            raise RequestError(f"bank is {self.bank}; it must be at least 1.")

    def banked(self) -> Sequence[str]:
        return self.prompts.harmless[: self.bank]

    def loss(self, read: Read) -> Tensor:
        from torch.nn.functional import cosine_similarity, normalize

        unsafe, safe, concepts = flat(read.unsafe), flat(read.safe), flat(read.concepts)
        unsafe_was, safe_was, bank = flat(read.unsafe_was), flat(read.safe_was), flat(read.bank_was)
        harm = normalize(flat(read.concepts_were).mean(0), dim=0)
        away = self.alpha * bank.norm(dim=1).mean() * harm
        target = least_like(unsafe_was, bank) - away
        led = 1 - cosine_similarity(unsafe, target).mean()
        emptied = 1 - cosine_similarity(concepts, safe_was[-1:]).mean()
        kept = 2 - (cosine_similarity(safe, safe_was) + cosine_similarity(safe + away, safe_was)).mean()
        return kept + self.weight * (led + emptied)


def least_like(unsafe: Tensor, safe: Tensor) -> Tensor:
    """Of the ``safe`` vectors, (m, D), for each ``unsafe`` one, (n, D), that with the least cosine."""
    from torch.nn.functional import normalize

    nearest: Tensor = (normalize(unsafe, dim=1) @ normalize(safe, dim=1).T).argmin(1)
    return safe[nearest]
