"""Generation jobs: which images to generate, where to save them, and the outcome of each."""

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
    """One image of a job.

    ``action`` is the policy's, None without a guard; ``path`` is None unless the image was released.
    """

    prompt: str
    seed: int
    action: Action | None
    why: str
    path: str | None


@dataclass(frozen=True, slots=True)
class GenerationOutput:
    """The images of a job.

    ``details`` is the guard's result as a dictionary, empty without a guard. ``failed`` is whether a filter
    could not screen something.
    """

    images: tuple[GeneratedImage, ...]
    details: Mapping[str, Any] = field(default_factory=dict)
    failed: bool = False

    @property
    def actions(self) -> tuple[Action, ...]:
        """The policy's action for each image; empty without a guard."""
        return tuple(image.action for image in self.images if image.action is not None)

    def to_dict(self) -> dict[str, Any]:
        """Return the output as JSON-ready data."""
        images = [asdict(image) for image in self.images]
        return {"guarded": bool(self.details), **self.details, "images": images}


@dataclass(frozen=True, slots=True)
class GenerationJob:
    """Several images for each of several prompts; image ``i`` of them all is generated with ``seed + i``.

    ``arguments`` are passed to the pipeline.
    """

    prompts: tuple[str, ...]
    num_images_per_prompt: int
    seed: int
    arguments: Mapping[str, Any]
    gallery: Gallery

    def generate(self, pipe: Any) -> GenerationOutput:
        """Generate without a guard, each image from the same noise as with one."""
        import torch

        generators = [torch.Generator().manual_seed(self.seed + i) for i in self._indices]
        images = pipe(
            prompt=list(self.prompts),
            num_images_per_prompt=self.num_images_per_prompt,
            generator=generators,
            **self.arguments,
        ).images
        return GenerationOutput(tuple(map(self._unguarded, self._indices, images)))

    def generate_guarded(self, pipe: Any, guard: Guard) -> GenerationOutput:
        """Generate inside the guard; only images that it releases are saved."""
        result = guard.generate(pipe, self.prompts, self.num_images_per_prompt, self.seed, **self.arguments)
        failed = any(run.problem for verdict in result.verdicts for run in verdict.filters.values())
        images = tuple(self._guarded(index, result) for index in self._indices)
        return GenerationOutput(images, result.to_dict(), failed)

    @property
    def _indices(self) -> range:
        return range(self.num_images_per_prompt * len(self.prompts))

    def _unguarded(self, index: int, image: Image) -> GeneratedImage:
        prompt, seed = self._prompt_and_seed(index)
        return GeneratedImage(prompt, seed, None, "no guard", str(self.gallery.add(image, prompt, seed)))

    def _guarded(self, index: int, result: Result) -> GeneratedImage:
        prompt, seed = self._prompt_and_seed(index)
        verdicts = result.verdicts_of(index)
        worst = max(verdicts, key=lambda verdict: verdict.action.severity)
        released = dict(zip(result.indices, result.images, strict=True)).get(index)
        path = self.gallery.add(released, prompt, seed) if released else None
        why = worst.explain().partition(": ")[2]
        if stop := result.stopped.get(index):
            why += f", stopped early after step {stop.step} of {stop.steps}"
        if tries := result.attempts.get(index):
            concepts = ", ".join(tries[-1].concepts)
            why += f", steered away from {concepts} ({tries[-1].guidance})"
        return GeneratedImage(prompt, seed, severest_action(verdicts), why, str(path) if path else None)

    def _prompt_and_seed(self, index: int) -> tuple[str, int]:
        return self.prompts[index // self.num_images_per_prompt], self.seed + index
