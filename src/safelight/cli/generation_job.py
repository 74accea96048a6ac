"""Orders: what to draw and where to put it, and what became of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from safelight.types import Action, Result, severest_action

if TYPE_CHECKING:
    from PIL.Image import Image

    from safelight.cli.gallery import Gallery
    from safelight.guard.guard import Guard


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """One image of an order; ``action`` is None without a guard, ``path`` unless it was released."""

    prompt: str
    seed: int
    action: Action | None
    why: str
    path: str | None


@dataclass(frozen=True, slots=True)
class GenerationOutput:
    """The images of an order; ``details`` is all that the guard says, nothing without one.

    ``failed`` is whether a filter could not look at something.
    """

    images: tuple[GeneratedImage, ...]
    details: Mapping[str, Any] = field(default_factory=dict)
    failed: bool = False

    @property
    def actions(self) -> tuple[Action, ...]:
        """What the policy says of each image; nothing without a guard."""
        return tuple(image.action for image in self.images if image.action is not None)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"guarded": bool(self.details), **self.details, "images": [asdict(p) for p in self.images]}


@dataclass(frozen=True, slots=True)
class GenerationJob:
    """``n`` images for each prompt; image ``i`` of all is drawn with ``seed + i``.

    ``arguments`` go to the pipeline.
    """

    prompts: tuple[str, ...]
    n: int
    seed: int
    arguments: Mapping[str, Any]
    album: Gallery

    def draw(self, pipe: Any) -> GenerationOutput:
        """Without a guard, each image from the noise that a guard would start it from."""
        import torch

        generators = [torch.Generator().manual_seed(self.seed + i) for i in self._numbers]
        images = pipe(
            prompt=list(self.prompts), num_images_per_prompt=self.n, generator=generators, **self.arguments
        ).images
        return GenerationOutput(tuple(map(self._unguarded, self._numbers, images)))

    def draw_guarded(self, pipe: Any, guard: Guard) -> GenerationOutput:
        """Inside the guard; only what it releases is saved."""
        result = guard.generate(pipe, self.prompts, self.n, self.seed, **self.arguments)
        failed = any(run.problem for verdict in result.verdicts for run in verdict.filters.values())
        return GenerationOutput(
            tuple(self._guarded(i, result) for i in self._numbers), result.to_dict(), failed
        )

    @property
    def _numbers(self) -> range:
        return range(self.n * len(self.prompts))

    def _unguarded(self, number: int, image: Image) -> GeneratedImage:
        prompt, seed = self._asked(number)
        return GeneratedImage(prompt, seed, None, "no guard", str(self.album.add(image, prompt, seed)))

    def _guarded(self, number: int, result: Result) -> GeneratedImage:
        prompt, seed = self._asked(number)
        verdicts = result.verdicts_of(number)
        worst = max(verdicts, key=lambda verdict: verdict.action.severity)
        released = dict(zip(result.indices, result.images, strict=True)).get(number)
        path = self.album.add(released, prompt, seed) if released else None
        why = worst.explain().partition(": ")[2]
        if stop := result.stopped.get(number):
            why += f", seen coming after step {stop.step} of {stop.steps}"
        if tries := result.attempts.get(number):
            concepts = ", ".join(tries[-1].concepts)
            why += f", led away from {concepts} ({tries[-1].guidance})"
        return GeneratedImage(prompt, seed, severest_action(verdicts), why, str(path) if path else None)

    def _asked(self, number: int) -> tuple[str, int]:
        return self.prompts[number // self.n], self.seed + number
