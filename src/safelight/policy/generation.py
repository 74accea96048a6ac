"""The tables of a policy about guidance, early stopping and blurring of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from safelight import registry
from safelight.errors import unknown_name
from safelight.images.blur import Style
from safelight.policy.table import Score, Share, Table, Text
from safelight.policy.taxonomy import load_taxonomy

ERASURE = "erasure"
"""The guidance that applies the policy's ``deltas`` to the model's weights; it is the only one that is not
registered."""

# Former names of guidance that policies may still use.
_ALIASES: Mapping[str, str] = {
    "projection": "prompt-projection",
    **{name: f"sld-{name}" for name in ("weak", "medium", "strong", "max")},
}


def _registered(name: str) -> str:
    """Return the registered name of a guidance. Raises ``ValueError`` if there is none of that name."""
    known = (ERASURE, *registry.names("guidance"))
    if name not in known:
        name = _ALIASES.get(name, name)
    if name not in known:
        raise ValueError(unknown_name("guidance", name, known).removesuffix("."))
    return name


GuidanceName = Annotated[str, AfterValidator(_registered)]
"""The name of a registered guidance, or ``erasure``."""


class EarlyStop(Table):
    """After which denoising steps unfinished images are screened, and at which score they are stopped.

    ``at`` are shares of the denoising steps. An image that the policy would block is stopped if its score is
    at least ``score``.
    """

    at: Annotated[tuple[Share, ...], Field(strict=False, min_length=1)]
    """Shares of the denoising steps after which an image is screened, each between 0 and 1."""
    score: Score
    """Lowest score at which an image that the policy would block is stopped."""


class GuidanceRule(Table):
    """Which guidance steers images away from harm during generation.

    Each guidance is given by its registered name: ``prompt-projection``, ``sld-weak`` to ``sld-max``,
    ``negative-prompt``, ``negative-guidance``, or one of an installed plug-in. ``erasure`` applies the
    ``deltas`` of the detected concepts to the model's weights, or all deltas if nothing was detected; it is
    skipped if there is no such delta.

    ``default`` is used for every prompt, ``review`` for prompts under review. If an image would be blurred or
    blocked, or the action for a prompt or image is ``steer``, the image is generated with each guidance of
    ``steer`` in turn until nothing harmful is detected in it; with ``score``, nothing with at least that
    score. ``concepts`` gives the text that describes a label or category, and ``deltas`` the file, relative
    to the policy file, that erases it.
    """

    default: GuidanceName | None = None
    """Guidance for every prompt; by default none."""
    review: GuidanceName | None = None
    """Guidance for prompts under review; by default that of ``default``."""
    steer: Annotated[tuple[GuidanceName, ...], Field(strict=False)] = ()
    """Guidance tried in turn on an image that would be blurred or blocked, and for the action ``steer``."""
    score: Score | None = None
    """Lowest score at which an image that was generated again is still not released, if that is lower than
    the threshold of its category."""
    concepts: dict[str, Text] = Field(default_factory=dict)
    """Text that describes a label or category, by label or category. By default a category has its packaged
    text."""
    deltas: dict[str, Text] = Field(default_factory=dict)
    """Delta files for the guidance ``erasure``, by label or category, relative to the policy file."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every guidance that the rule names, ``erasure`` included."""
        named = (self.default, self.review, *self.steer)
        return tuple(dict.fromkeys(name for name in named if name))

    @model_validator(mode="after")
    def _deltas_have_concepts(self) -> Self:
        for name in self.deltas:
            if name not in self.concepts and name not in load_taxonomy().categories:
                raise ValueError(f'"{name}" has a delta but no text; add one under [guidance.concepts]')
        return self


class Hiding(Table):
    """How images are blurred: inside the boxes of what was found, or with ``whole`` the whole image."""

    style: Style = "blur"
    """``blur`` for a smooth blur, ``mosaic`` for coarse tiles."""
    whole: bool = False
    """Blur the whole image, even if there are boxes."""
