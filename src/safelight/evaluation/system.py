"""Systems, the subjects of evaluations: each returns an image for a prompt and a seed, or refuses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from pathlib import Path
from typing import Any, Self

from safelight.alignment.delta.delta import Delta
from safelight.errors import RequestError
from safelight.guard.guard import Guard
from safelight.guard.outputs import plain_images
from safelight.models.pipelines import load_pipeline, model_name
from safelight.models.weights import weights_sha256
from safelight.protocols import Guidance, Pipeline
from safelight.types import Answer

BATCH = 16


class BareSystem:
    """A pipeline without a guard, with optional ``guidance``; ``arguments`` are passed to each call.

    Each image has its own random generator, so apart from rounding it does not depend on the other images of
    its batch. ``settings`` identify the model's weights and the arguments.
    """

    def __init__(self, pipe: Pipeline, guidance: Guidance | None = None, **arguments: Any) -> None:
        self.pipe = pipe
        self.guidance = guidance
        self.arguments = arguments
        self.name = model_name(pipe) + (f" with {guidance.name}" if guidance else "")
        guided = {"guidance": guidance.name, "concepts": guidance.concepts} if guidance else {}
        self.settings: Mapping[str, Any] = {
            "weights_sha256": weights_sha256(pipe),
            "arguments": arguments,
            **guided,
        }

    def with_arguments(self, **arguments: Any) -> Self:
        """Return the same system with these additional call arguments."""
        other = copy(self)
        other.arguments = {**self.arguments, **arguments}
        other.settings = {**self.settings, "arguments": other.arguments}
        return other

    def answer(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Answer]:
        """Return one answer per prompt. Raises ``ModelError`` unless there is one PIL image for each."""
        return _in_batches(self._answer, prompts, seeds)

    def _answer(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Answer]:
        with self.guidance.attach(self.pipe) if self.guidance else nullcontext():
            return self._draw(seeds, prompt=list(prompts))

    def _draw(self, seeds: Sequence[int], **asked: Any) -> list[Answer]:
        """Return an image for each seed."""
        answer = self.pipe(**asked, generator=_generators(seeds), **self.arguments)
        return [Answer(image) for image in plain_images(answer, len(seeds))]


def quiet_pipeline(model: str | Path) -> Any:
    """Return a model's pipeline without progress bars. Raises the errors of ``load_pipeline``."""
    pipe = load_pipeline(model)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@contextmanager
def aligned(pipe: Pipeline, by: Delta | Guidance | None, **arguments: Any) -> Iterator[BareSystem]:
    """Yield the pipeline as a system, with a delta applied, with guidance, or unchanged for None."""
    with by.attach(pipe) if isinstance(by, Delta) else nullcontext():
        yield BareSystem(pipe, None if isinstance(by, Delta) else by, **arguments)


class GuardedSystem:
    """A pipeline whose calls are screened by a guard; otherwise it is like ``BareSystem``."""

    def __init__(self, guard: Guard, pipe: Pipeline, **arguments: Any) -> None:
        self.guard = guard
        self.pipe = pipe
        self.arguments = arguments
        self.name = f"{model_name(pipe)} guarded by {guard.policy.id}"
        policy = hashlib.sha256(guard.policy.model_dump_json().encode()).hexdigest()
        self.settings: Mapping[str, Any] = {
            "weights_sha256": weights_sha256(pipe),
            "arguments": arguments,
            "policy_sha256": policy,
            "without_image_filter": guard.without_image_filter,
        }

    def with_arguments(self, **arguments: Any) -> Self:
        """Return the same system with these additional call arguments."""
        other = copy(self)
        other.arguments = {**self.arguments, **arguments}
        other.settings = {**self.settings, "arguments": other.arguments}
        return other

    def answer(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Answer]:
        """Return one answer per prompt. Raises the errors of ``Guard.generate``."""
        return _in_batches(self._answer, prompts, seeds)

    def _answer(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Answer]:
        result = self.guard.generate(self.pipe, prompts, generator=_generators(seeds), **self.arguments)
        released = dict(zip(result.indices, result.images, strict=True))
        return [Answer(released.get(i), result.verdicts_of(i)) for i in range(len(prompts))]


def _generators(seeds: Sequence[int]) -> list[Any]:
    import torch

    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _in_batches(
    answer: Callable[[Sequence[str], Sequence[int]], list[Answer]],
    prompts: Sequence[str],
    seeds: Sequence[int],
) -> list[Answer]:
    if len(prompts) != len(seeds):
        raise RequestError(f"there are {len(prompts)} prompts and {len(seeds)} seeds; give one seed each.")
    starts = range(0, len(prompts), BATCH)
    return [a for i in starts for a in answer(prompts[i : i + BATCH], seeds[i : i + BATCH])]
