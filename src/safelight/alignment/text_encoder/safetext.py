"""SafeText: unsafe prompts no longer mean what they meant, safe ones do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from safelight.alignment.text_encoder.distances import apart, cosines, mean
from safelight.alignment.text_encoder.method import Read, TextEncoderMethod

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SafeText(TextEncoderMethod):
    """Hu et al. (2025, arXiv:2502.20623): minimises L_u - λ L_e, with L_u the mean L2 distance of what safe
    prompts mean from what they meant, and L_e the mean negative cosine similarity of unsafe ones.

    Distances are of one token's state, the mean over all tokens and the pooled text; CLIP's first state, the
    same for all texts, is left out of L_e. ``weight`` is λ; what is best depends on how large states are.
    """

    weight: float = 10.0

    name: ClassVar[str] = "safetext"

    def loss(self, read: Read) -> Tensor:
        kept = mean(apart(read.safe, read.safe_was))
        return kept + self.weight * mean(cosines(read.unsafe, read.unsafe_was, read.constant))
