"""Safe-CLIP: the embeddings of unsafe prompts are moved to those of their safe counterparts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from safelight.alignment.text_encoder.batch import Read
from safelight.alignment.text_encoder.distances import cosines, differ, mean, relative
from safelight.alignment.text_encoder.method import TextEncoderMethod
from safelight.registry import register

if TYPE_CHECKING:
    from torch import Tensor


@register("alignment_method", "safe-clip")
@dataclass(frozen=True)
class SafeCLIP(TextEncoderMethod):
    """Train a text encoder on safe counterparts (Safe-CLIP). Unsafe prompts take the meaning of
    their safe counterparts, so it needs pairs of both.

    The text part of Poppi et al. (2024, arXiv:2311.16254), with T* the frozen encoder: for an unsafe prompt u
    and its safe counterpart s, and for safe prompts s, the loss is the sum of

        1 - cos(T(u), T*(s)),   |T(s) - T*(s)| / |T*(s)|,

    the first weighted by ``unsafe_weight``. The authors preserve safe prompts by 1 - cos(T(s), T*(s)), which
    is nearly flat for small changes, and move all token embeddings of an unsafe prompt; here only those move
    that differ from its counterpart's. On the storybook model this degrades fewer harmless prompts.
    """

    unsafe_weight: float = 2.5
    train_steps: int = field(default=2800, kw_only=True)
    learning_rate: float = field(default=2e-3, kw_only=True)

    name: ClassVar[str] = "safe-clip"
    needs_pairs: ClassVar[bool] = True

    def loss(self, read: Read) -> Tensor:
        led = mean(
            cosines(read.unsafe, read.counterparts_were), differ(read.unsafe_was, read.counterparts_were)
        )
        return mean(relative(read.safe, read.safe_was)) + self.unsafe_weight * (1 - led)
