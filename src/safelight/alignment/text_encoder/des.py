"""Distorting Embedding Space (DES): unsafe prompts are moved to a safe meaning, away from harm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from safelight.alignment.text_encoder.batch import Read
from safelight.alignment.text_encoder.distances import cosines, differ, flat, mean, relative
from safelight.alignment.text_encoder.encoder import Reading
from safelight.alignment.text_encoder.method import TextEncoderMethod
from safelight.errors import RequestError
from safelight.registry import register

if TYPE_CHECKING:
    from torch import Tensor


@register("alignment_method", "des")
@dataclass(frozen=True)
class DES(TextEncoderMethod):
    """Train a text encoder to read unsafe prompts as safe (DES). Distorting Embedding Space moves
    their embeddings towards those of safe prompts, and away from the concepts.

    Distorting Embedding Space (2025, arXiv:2501.18877). Let u_i, s and n be the token embeddings of unsafe
    prompts, safe prompts and concepts before training; a tilde marks the current ones:

        t_i = s*_i - α n̂,   L_u = 1 - cos(ũ_i, t_i),   L_n = 1 - cos(ñ, empty prompt),
        L_s = |s̃ - s| / |s| + 1 - cos(s̃ + α n̂, s),   L = L_s + w (L_u + L_n).

    The first term of the authors' L_s is 1 - cos(s̃, s), which ignores norms and is nearly flat for small
    changes: on the storybook model the norms of the embeddings grew by a tenth, and for 3 % of the harmless
    prompts an object was missing.

    s*_i is the embedding of the one among the first ``safe_bank_size`` safe prompts whose whole embedding is
    least similar to that of the unsafe prompt. If it were chosen from the batch, the target would differ each
    time, and a prompt that is trained towards many targets learns their mean. L_u only includes the positions
    at which an unsafe prompt and its counterpart differ. ``alpha`` is α relative to the mean norm of a safe
    prompt's token embeddings: the authors' 200, for all of them as one vector, is 0.8 for Stable Diffusion
    1.5. The authors weight the two terms 7 : 3, an ``unsafe_weight`` w of 2.3. The defaults are lower: far
    from safe prompts, the storybook model's images become arbitrary and images of safe prompts degrade.
    """

    concepts: Sequence[str] = field(
        metadata={
            "option": "--concept",
            "help": "Concept to move unsafe prompts away from, with synonyms separated by commas; "
            "repeatable.",
        }
    )
    unsafe_batch_size: int = 20
    safe_batch_size: int = 52
    train_steps: int = field(default=1200, kw_only=True)
    learning_rate: float = field(default=2e-3, kw_only=True)
    alpha: float = field(
        default=0.05,
        metadata={
            "help": "α of the paper, the distance to move away from the concepts, as a fraction of the "
            "mean norm of the hidden states of safe prompts."
        },
    )
    unsafe_weight: float = 1.5
    safe_bank_size: int = field(
        default=4,
        metadata={
            "help": "Number of safe prompts; each unsafe prompt is moved to the least similar of them.",
            "min": 1,
        },
    )

    name: ClassVar[str] = "des"
    reads_concepts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.safe_bank_size < 1:
            raise RequestError(f"safe_bank_size is {self.safe_bank_size}; it must be at least 1.")

    def banked(self) -> Sequence[str]:
        return self.prompts.harmless[: self.safe_bank_size]

    def loss(self, read: Read) -> Tensor:
        away, nothing = self._away(read), read.safe_was.rows(slice(-1, None))
        target = read.bank_was.rows(least_like(flat(read.unsafe_was), flat(read.bank_was))).moved(away, -1)
        led = mean(cosines(read.unsafe, target), differ(read.unsafe_was, read.counterparts_were))
        emptied = mean(cosines(read.concepts, nothing, read.constant))
        lost = mean(relative(read.safe, read.safe_was))
        lost += 1 - mean(cosines(read.safe.moved(away), read.safe_was))
        return lost + self.unsafe_weight * (2 - led - emptied)

    def _away(self, read: Read) -> Reading:
        """Return α n̂ for each token embedding and for the pooled embedding."""
        from torch.nn.functional import normalize

        def direction(concepts: Tensor | None, bank: Tensor | None) -> Tensor | None:
            if concepts is None or bank is None:
                return None
            harm = normalize(concepts.float().mean(0, keepdim=True), dim=-1)
            off: Tensor = self.alpha * bank.float().norm(dim=-1).mean() * harm
            return off

        harm, bank = read.concepts_were, read.bank_was
        return Reading(direction(harm.states, bank.states), direction(harm.pooled, bank.pooled))


def least_like(unsafe: Tensor, safe: Tensor) -> Tensor:
    """Return for each row of ``unsafe``, (n, D), the index of the least similar row of ``safe``, (m, D)."""
    from torch.nn.functional import normalize

    return (normalize(unsafe, dim=1) @ normalize(safe, dim=1).T).argmin(1)
