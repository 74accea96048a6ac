"""The rule for one category of harm: which action is taken from which score on."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from safelight.policy.table import Score, Table, Text
from safelight.types import STAGES, Action


class Thresholds(Table):
    """The lowest score at which each action is taken; a severer action must not have a lower threshold."""

    review: Score | None = None
    """Lowest score at which an item is flagged for review."""
    steer: Score | None = None
    """Lowest score at which an image is generated again with guidance."""
    blur: Score | None = None
    """Lowest score at which an image is blurred where something was found. Not for prompts."""
    block: Score | None = None
    """Lowest score at which an item is blocked."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        given = [threshold for _, threshold in self.steps()]
        if given != sorted(given):
            raise ValueError("thresholds must not decrease in the order review, steer, blur, block")
        return self

    def steps(self) -> list[tuple[Action, float]]:
        """Return the thresholds that are set, mildest action first."""
        steps = [(action, getattr(self, action.value, None)) for action in Action]
        return [(action, threshold) for action, threshold in steps if threshold is not None]

    def decide(self, score: float) -> tuple[Action, float | None]:
        """Return the severest action whose threshold ``score`` reaches, and that threshold."""
        reached = [step for step in self.steps() if score >= step[1]]
        return reached[-1] if reached else (Action.ALLOW, None)

    def stricter(self, score: float) -> Self:
        """Lower the threshold of the mildest action that changes or withholds an image to ``score``."""
        step = next((step for step in self.steps() if step[0] >= Action.STEER), None)
        if step is None or step[1] <= score:
            return self
        return self.model_copy(update={step[0].value: score})


class CategoryRule(Table):
    """The thresholds of one category at each stage; at a stage without thresholds no action is taken.

    A ``description`` declares a custom category, one that is not in the taxonomy.
    """

    description: Text | None = None
    """Meaning of a custom category; required for a category that is not in the taxonomy, and not allowed for
    any other."""
    prompt: Thresholds = Thresholds()
    """Thresholds for prompts."""
    image: Thresholds = Thresholds()
    """Thresholds for images."""
    pair: Thresholds = Thresholds()
    """Thresholds for images compared with their prompts."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.prompt.blur is not None:
            raise ValueError("a prompt cannot be blurred; use review, steer or block")
        if not any(getattr(self, stage).steps() for stage in STAGES):
            raise ValueError("no threshold is set; set at least one or remove the category")
        return self


# The category of child sexual abuse material: its thresholds are fixed and no policy can change them.
CSAE = "csae"
_ALWAYS = Thresholds(block=0.2)
CSAE_RULE = CategoryRule(prompt=_ALWAYS, image=_ALWAYS, pair=_ALWAYS)
