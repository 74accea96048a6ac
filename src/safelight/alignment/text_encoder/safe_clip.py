"""Safe-CLIP: unsafe prompts come to mean what is safe in their place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from safelight.alignment.text_encoder.distances import cosines, mean
from safelight.alignment.text_encoder.method import Read, TextEncoderMethod

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SafeCLIP(TextEncoderMethod):
    """The part about texts of Poppi et al. (2024, arXiv:2311.16254): 1 - cos(T(u), T*(s)) of an unsafe prompt
    u and its safe counterpart s, and 1 - cos(T(s), T*(s)), with T* the encoder as it was, really frozen.

    Of every state and the pooled text; CLIP's first state, the same for all texts, counts only in the second.
    """

    steps: int = field(default=2800, kw_only=True)
    rate: float = field(default=2e-3, kw_only=True)

    name: ClassVar[str] = "safe-clip"
    in_pairs: ClassVar[bool] = True

    def loss(self, read: Read) -> Tensor:
        led = mean(cosines(read.unsafe, read.twins_were, read.constant))
        kept = mean(cosines(read.safe, read.safe_was))
        return 1 - kept + self.weight * (1 - led)
