"""An alignment method: concepts are projected out of the layers that read the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from safelight.alignment.delta.delta import Delta, Provenance, part_sha256
from safelight.alignment.diffusion.parameters import parameters
from safelight.alignment.method.concept_names import check_names, names_of
from safelight.errors import RequestError
from safelight.models.denoiser import Denoiser, denoiser_of
from safelight.models.pipelines import model_name
from safelight.types import AlignmentResult, AlignmentRun


@dataclass(frozen=True)
class ProjectionEraser:
    """Project concepts out of the keys and values of cross-attention, in closed form.

    W ← W (I - s ĉ ĉᵀ), with the strength s and the unit vector ĉ along the mean of what the states of the
    concept's synonyms and those of the empty prompt differ by.
    """

    concepts: Sequence[str] = field(
        metadata={
            "option": "--concept",
            "help": "Concept to remove, with synonyms separated by commas; repeatable.",
        }
    )
    strength: float = field(default=1.0, metadata={"help": "Share of the concept to remove, above 0."})

    name: ClassVar[str] = "my-eraser"
    examples: ClassVar[tuple[str, ...]] = ('--concept "gun, pistol" --output gun.safetensors',)

    def __post_init__(self) -> None:
        if not any(names_of(each) for each in self.concepts):
            raise RequestError("there is no concept to remove; name one.")
        if not self.strength > 0:
            raise RequestError(f"strength is {self.strength}; it must be above 0.")

    def align(self, pipe: Any, run: AlignmentRun = AlignmentRun()) -> AlignmentResult[Delta]:
        """Return the delta. Raises ``RequestError`` for a concept that the model cannot read."""
        check_names(self.concepts, pipe)
        denoiser = denoiser_of(pipe)
        directions = [_direction(denoiser, concept) for concept in self.concepts]
        changes: dict[str, Tensor] = {}
        for name, weight in parameters(denoiser.module, "esd-x-strict").items():
            edited = before = weight.detach().float()
            for direction in directions:
                edited = edited - self.strength * torch.outer(edited @ direction, direction)
            changes[f"{denoiser.component}.{name}"] = edited - before
        base = {denoiser.component: part_sha256(pipe, denoiser.component)}
        about = Provenance(self.name, tuple(self.concepts), model_name(pipe), base, asdict(self))
        return AlignmentResult(Delta.of(changes, about))


def _direction(denoiser: Denoiser, concept: str) -> Tensor:
    """Return the unit vector from the empty prompt to the concept, (C,)."""
    states = denoiser.encode(["", *names_of(concept)])["encoder_hidden_states"].float()
    difference = (states[1:] - states[:1]).mean((0, 1))
    return difference / difference.norm()
