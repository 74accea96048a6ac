"""A pipeline whose images are screened during generation without being stopped."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace

from PIL.Image import Image

from safelight.evaluation.system import BareSystem
from safelight.guard.early_stop import watched
from safelight.guard.guard import Guard
from safelight.protocols import Pipeline
from safelight.types import Answer

# The shares of the denoising steps between which unfinished images are screened.
_FIRST, _LAST = 0.2, 0.7


class WatchedSystem(BareSystem):
    """A pipeline whose finished and unfinished images are screened by the image filters of a guard.

    Every image is released, with its verdict. The details of an answer are the ``score`` of the finished
    image, and in ``coming`` the scores of the unfinished image by the number of steps done.
    """

    def __init__(self, guard: Guard, pipe: Pipeline, steps: int) -> None:
        super().__init__(pipe, None, num_inference_steps=steps)
        policy = hashlib.sha256(guard.policy.model_dump_json().encode()).hexdigest()
        self.name += f" watched by {guard.policy.id}"
        self.settings = {**self.settings, "policy_sha256": policy}
        self._guard = guard
        self._at = [step / steps for step in range(math.ceil(_FIRST * steps), math.ceil(_LAST * steps) + 1)]

    def _answer(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Answer]:
        coming: list[dict[str, float]] = [{} for _ in prompts]

        def look(done: int, _: int, images: list[Image]) -> None:
            for scores, verdict in zip(coming, self._guard.screen_images(images), strict=True):
                scores[str(done)] = verdict.score

        with watched(self.pipe, self._at, look):
            answers = super()._answer(prompts, seeds)
        verdicts = self._guard.screen_images([each.image for each in answers if each.image])
        return [
            replace(answer, verdicts=(verdict,), details={"score": verdict.score, "coming": scores})
            for answer, verdict, scores in zip(answers, verdicts, coming, strict=True)
        ]
