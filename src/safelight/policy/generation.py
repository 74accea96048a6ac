"""What a policy says about images while they are made, and about those that are hidden."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from safelight.images.blur import Style
from safelight.policy.table import Score, Share, Table, Text
from safelight.policy.taxonomy import load_taxonomy


class EarlyStop(Table):
    """After which shares of its steps an image is looked at before it is finished, and how sure it takes.

    An image that the policy would block is given up if its score is at least ``score``.
    """

    at: Annotated[tuple[Share, ...], Field(strict=False, min_length=1)]
    score: Score


Strength = Literal["erasure", "projection", "weak", "medium", "strong", "max"]


class GuidanceRule(Table):
    """How strongly images are led away from harm while they are made.

    ``projection`` leaves out of what the model is told what was seen, or what the policy minds of a prompt;
    ``weak`` to ``max`` add Safe Latent Diffusion. ``erasure`` puts the ``deltas`` of what was seen on the
    model's weights, or all if nothing was; where there is none it is passed over.

    ``default`` is for every prompt, ``review`` for prompts under review. An image that would be hidden or
    blocked, and a prompt or image under ``steer``, is drawn with each of ``steer`` in turn until nothing is
    seen in it: with a ``score``, nothing from that score on. ``concepts`` says what stands for a label or
    category that was seen, ``deltas`` which file, beside the policy's, takes it out of the weights.
    """

    default: Strength | None = None
    review: Strength | None = None
    steer: Annotated[tuple[Strength, ...], Field(strict=False)] = ()
    score: Score | None = None
    concepts: dict[str, Text] = Field(default_factory=dict)
    deltas: dict[str, Text] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _named(self) -> Self:
        for name in self.deltas:
            if name not in self.concepts and name not in load_taxonomy().categories:
                raise ValueError(f'nothing in [guidance.concepts] stands for "{name}", which has a delta')
        return self


class Hiding(Table):
    """How images under ``blur`` are hidden: where something was found, or with ``whole`` everywhere."""

    style: Style = "blur"
    whole: bool = False
