"""SafeText: the embeddings of unsafe prompts are moved away from harm, those of safe prompts are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from safelight.alignment.text_encoder.batch import Read
from safelight.alignment.text_encoder.distances import cosines, distances, mean, remaining
from safelight.alignment.text_encoder.method import TextEncoderMethod
from safelight.errors import RequestError, unknown_name
from safelight.registry import register

if TYPE_CHECKING:
    from torch import Tensor


UnsafeObjective = Literal["counterpart", "cosine"]


@register("alignment_method", "safetext")
@dataclass(frozen=True)
class SafeText(TextEncoderMethod):
    """Train a text encoder to ignore unsafe meaning (SafeText). Unsafe prompts lose their meaning, and safe
    ones keep it.

    Hu et al. (2025, arXiv:2502.20623) minimize L_u - λ L_e, where L_u is the mean L2 distance between the
    embeddings of safe prompts now and before training, and L_e measures how far those of unsafe prompts have
    moved. ``unsafe_weight`` is λ.

    The paper's L_e, ``unsafe_objective="cosine"``, is the mean negative cosine similarity between the
    embeddings of unsafe prompts now and before training. Its gradient is zero at first and then has no
    preferred direction: unsafe prompts get an arbitrary meaning, and in trials on the storybook model 10 to
    20 % of their images were still harmful. So by default L_e is the negative of ``remaining``, the share of
    an unsafe prompt's meaning, relative to its safe counterpart, that is left: the prompt moves to its
    counterpart or to other embeddings without that meaning, and what both have in common stays. A prompt
    without a counterpart is compared with the empty prompt.

    Distances are means over token embeddings and the pooled output; CLIP's first token embedding, which is
    the same for all texts, is left out of L_e.
    """

    safe_batch_size: int = 60
    train_steps: int = field(default=1250, kw_only=True)
    learning_rate: float = field(default=2e-3, kw_only=True)
    unsafe_weight: float = 12.0
    unsafe_objective: UnsafeObjective = field(
        default="counterpart",
        metadata={
            "help": "Loss on unsafe prompts: counterpart (removes what a prompt means and its safe "
            "counterpart does not) or cosine (similarity to the embedding before training, as in the paper)."
        },
    )

    name: ClassVar[str] = "safetext"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unsafe_objective not in get_args(UnsafeObjective):
            raise RequestError(
                unknown_name("unsafe_objective", self.unsafe_objective, get_args(UnsafeObjective))
            )

    def loss(self, read: Read) -> Tensor:
        return mean(distances(read.safe, read.safe_was)) + self.unsafe_weight * self._unsafe(read)

    def _unsafe(self, read: Read) -> Tensor:
        if self.unsafe_objective == "cosine":
            return mean(cosines(read.unsafe, read.unsafe_was, read.constant))
        return remaining(read.unsafe, read.unsafe_was, read.counterparts_were)
