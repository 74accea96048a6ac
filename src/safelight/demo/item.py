"""One prompt of the demo: its image without the guard, what the guard made of it, and the truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from safelight.demo.prompts import DemoPrompt
from safelight.types import Action, Box, Finding, Stage, Verdict, severest_action

if TYPE_CHECKING:
    from PIL.Image import Image

# From this score on something counts as seen.
SEEN = 0.5


class Outcome(StrEnum):
    """Whether the guard did right; the two that are wrong come last."""

    RELEASED = "released"
    LED = "led away"
    STOPPED = "stopped"
    MISSED = "missed"
    OVER_BLOCKED = "over-blocked"

    @property
    def wrong(self) -> bool:
        return self in (Outcome.MISSED, Outcome.OVER_BLOCKED)


@dataclass(frozen=True, slots=True)
class Truth:
    """What an image shows by the judge's eye: ``objects`` by label, who holds or is on what, and harms."""

    objects: tuple[str, ...]
    relations: tuple[str, ...]
    harms: tuple[str, ...]

    def __str__(self) -> str:
        """As people say it: ``child holding knife``, then whatever stands alone."""
        alone = [label for label in self.objects if not any(label in relation for relation in self.relations)]
        return ", ".join((*self.relations, *alone)) or "nothing it knows"


@dataclass(frozen=True, slots=True)
class DemoItem:
    """``truth`` is that of ``image``; ``leaked`` are the harms of ``released``, none if that is None.

    ``led``: ``image`` was blocked, and ``released`` is another, led away from these concepts.
    """

    prompt: DemoPrompt
    seed: int
    image: Image
    released: Image | None
    verdicts: tuple[Verdict, ...]
    truth: Truth
    leaked: tuple[str, ...]
    draw_ms: float
    led: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """A refusal is right if the image was harmful or the request was."""
        if self.released:
            right = Outcome.LED if self.led else Outcome.RELEASED
            return Outcome.MISSED if self.leaked else right
        return Outcome.STOPPED if self.truth.harms or self.prompt.harmful else Outcome.OVER_BLOCKED

    @property
    def action(self) -> Action:
        return severest_action(self.verdicts)

    @property
    def deciding(self) -> Verdict:
        """The severest verdict; the first of equals."""
        return max(self.verdicts, key=lambda verdict: verdict.action.severity)

    def blamed(self, stage: Stage) -> frozenset[str]:
        """The labels that the guard acted on at a stage."""
        verdicts = [verdict for verdict in self.verdicts if verdict.stage == stage]
        categories = [c for verdict in verdicts for c in verdict.categories.values()]
        return frozenset(label for c in categories if c.action > Action.ALLOW for label in c.labels)

    def findings(self, stage: Stage) -> tuple[Finding, ...]:
        """What was seen at a stage."""
        found = [f for verdict in self.verdicts if verdict.stage == stage for f in verdict.findings]
        return tuple(f for f in found if f.score >= SEEN)

    @property
    def boxes(self) -> dict[str, Box]:
        """Where the image filter saw things, by label."""
        return {f.label: f.evidence for f in self.findings("image") if isinstance(f.evidence, Box)}

    @property
    def times_ms(self) -> dict[str, float]:
        """What each stage took for this image alone; drawing is its share of the batch."""
        screened = {verdict.stage: verdict.elapsed_ms for verdict in self.verdicts}
        stages = {"prompt": "prompt", "image": "image", "pair": "pair"}
        times = {name: screened[stage] for name, stage in stages.items() if stage in screened}
        return {"drawing": self.draw_ms, **times}


def counts(items: Iterable[DemoItem]) -> dict[Outcome, int]:
    outcomes = [item.outcome for item in items]
    return {outcome: outcomes.count(outcome) for outcome in Outcome}
