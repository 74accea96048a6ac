"""The state of one image of a request, from its plan to its release."""

from __future__ import annotations

from dataclasses import dataclass, field

from PIL.Image import Image

from safelight.guard.pipeline_call import GeneratedImages
from safelight.guard.steering import GuidancePlan, Steering
from safelight.policy import ERASURE
from safelight.types import Action, Attempt, Stop, TraceStep, Verdict, severest_action


@dataclass(slots=True)
class ImageInProgress:
    """The image with this ``number`` in the request, and the latest attempt to generate it.

    ``image`` is None until it is finished; if it was stopped, ``image`` stays None and ``stop`` has the step.
    ``verdicts`` are those of the latest attempt, and ``attempts`` has every attempt that was judged.
    """

    number: int
    plan: GuidancePlan = field(default_factory=GuidancePlan)
    image: Image | None = None
    stop: Stop | None = None
    trace: tuple[TraceStep, ...] = ()
    verdicts: list[Verdict] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    def receive(self, generated: GeneratedImages) -> None:
        """Begin an attempt with the pipeline's output for this image."""
        self.plan = generated.plans[self.number]
        self.image = generated.images.get(self.number)
        self.stop = generated.stopped.get(self.number)
        self.trace = generated.traces[self.number]
        self.verdicts = []

    def next_plan(self, steering: Steering) -> GuidancePlan | None:
        """Record the judged attempt, and return the plan of the next one; None if there is none."""
        objection = max(self.verdicts, key=lambda verdict: verdict.action.severity, default=None)
        if objection and objection.action < Action.STEER:
            objection = None
        self.attempts.append(
            Attempt(self.plan.guidance, self.plan.concepts, objection, self.stop, self.trace)
        )
        return steering.next_plan(self.plan, objection) if objection else None

    @property
    def action(self) -> Action:
        """The severest action of the verdicts."""
        return severest_action(self.verdicts)

    @property
    def was_guided(self) -> bool:
        """Whether guidance changed any attempt at the image, or it was generated more than once."""
        return len(self.attempts) > 1 or any(map(_changed, self.attempts))


def _changed(attempt: Attempt) -> bool:
    return attempt.guidance == ERASURE or any(step.acting for step in attempt.trace)
