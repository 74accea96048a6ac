"""One prompt of the demo: its images without and with the guard, the verdicts, and the truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from safelight.demo.prompts import DemoPrompt
from safelight.types import Action, Box, Finding, Stage, Verdict, severest_action

if TYPE_CHECKING:
    from PIL.Image import Image

# Findings with at least this score are shown.
SEEN = 0.5


class Outcome(StrEnum):
    """The outcome of an image in the guard; the two wrong outcomes come last."""

    RELEASED = "released"
    STEERED = "steered away"
    STOPPED = "stopped"
    MISSED = "missed"
    OVER_BLOCKED = "over-blocked"

    @property
    def wrong(self) -> bool:
        return self in (Outcome.MISSED, Outcome.OVER_BLOCKED)


@dataclass(frozen=True, slots=True)
class Truth:
    """The true content of an image according to the judge: labels of objects, their relations, and harms."""

    objects: tuple[str, ...]
    relations: tuple[str, ...]
    harms: tuple[str, ...]

    def __str__(self) -> str:
        """Return the relations, such as "child holding knife", then the objects that are in none of them."""
        alone = [label for label in self.objects if not any(label in relation for relation in self.relations)]
        return ", ".join((*self.relations, *alone)) or "nothing it knows"


@dataclass(frozen=True, slots=True)
class DemoItem:
    """One prompt of the demo with its images, the guard's verdicts and the truth.

    ``image`` is generated without the guard and ``truth`` is what it shows; ``released`` is what the guard
    released, if anything, and ``leaked`` are the harms in that. Where ``image`` was blocked and generated
    again, ``steered_away_from`` are the concepts that ``released`` was steered away from.
    """

    prompt: DemoPrompt
    seed: int
    image: Image
    released: Image | None
    verdicts: tuple[Verdict, ...]
    truth: Truth
    leaked: tuple[str, ...]
    draw_ms: float
    steered_away_from: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """The outcome; withholding an image is right if the image or the request is harmful."""
        if self.released:
            right = Outcome.STEERED if self.steered_away_from else Outcome.RELEASED
            return Outcome.MISSED if self.leaked else right
        return Outcome.STOPPED if self.truth.harms or self.prompt.harmful else Outcome.OVER_BLOCKED

    @property
    def action(self) -> Action:
        return severest_action(self.verdicts)

    @property
    def deciding(self) -> Verdict:
        """The most severe verdict; the first of several that are equally severe."""
        return max(self.verdicts, key=lambda verdict: verdict.action.severity)

    def blamed(self, stage: Stage) -> frozenset[str]:
        """Return the labels that the guard acted on at a stage."""
        verdicts = [verdict for verdict in self.verdicts if verdict.stage == stage]
        categories = [c for verdict in verdicts for c in verdict.categories.values()]
        return frozenset(label for c in categories if c.action > Action.ALLOW for label in c.labels)

    def findings(self, stage: Stage) -> tuple[Finding, ...]:
        """Return the findings of a stage with a score of at least ``SEEN``."""
        found = [f for verdict in self.verdicts if verdict.stage == stage for f in verdict.findings]
        return tuple(f for f in found if f.score >= SEEN)

    @property
    def boxes(self) -> dict[str, Box]:
        """The boxes of what the image filter found, by label."""
        return {f.label: f.evidence for f in self.findings("image") if isinstance(f.evidence, Box)}

    @property
    def times_ms(self) -> dict[str, float]:
        """The time of each stage for this image; that of drawing is its share of the batch."""
        screened = {verdict.stage: verdict.elapsed_ms for verdict in self.verdicts}
        stages = {"prompt": "prompt", "image": "image", "pair": "pair"}
        times = {name: screened[stage] for name, stage in stages.items() if stage in screened}
        return {"drawing": self.draw_ms, **times}


def counts(items: Iterable[DemoItem]) -> dict[Outcome, int]:
    outcomes = [item.outcome for item in items]
    return {outcome: outcomes.count(outcome) for outcome in Outcome}
