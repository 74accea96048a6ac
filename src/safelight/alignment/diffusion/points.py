"""Training points on denoising trajectories, each with the target prediction of the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safelight.errors import ModelError
from safelight.models.conditioning import Branch, ConditioningBatch
from safelight.models.denoiser import Arguments, Denoiser
from safelight.models.patched_method import Method, patched_method

if TYPE_CHECKING:
    from torch import Tensor

# A function of the predictions by text, each (N, …), that returns the target prediction.
Target = Callable[[Mapping[str, "Tensor"]], "Tensor"]
Frozen = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Point:
    """One row of a denoiser call, with x_t and a text's embeddings, and its target prediction, (1, …)."""

    call: Arguments
    target: Tensor


@dataclass(frozen=True, slots=True)
class Goal:
    """A training goal: on trajectories of ``prompt`` the network should predict ``target``.

    The target is computed from the predictions for the prompt, for the empty prompt and for ``others``.
    """

    prompt: str
    target: Target
    others: tuple[str, ...] = ()


def points(
    denoiser: Denoiser,
    goal: Goal,
    seeds: Sequence[int],
    steps: int = 50,
    scale: float = 3.0,
    jitter: bool = False,
    fraction: float = 1.0,
    frozen: Frozen | None = None,
) -> list[Point]:
    """Return a point for every step of a generation from each seed, with guidance scale ``scale``.

    Only the first, noisiest ``fraction`` of each trajectory is generated. With ``jitter`` the timestep of a
    point is drawn between that of a step and the noisier one before it, as in the paper; otherwise the
    predictions of the generation itself are reused. ``frozen`` returns a context in which the network has its
    original weights.
    """
    return _Trajectories(denoiser, goal, seeds, jitter, fraction, frozen).points(steps, scale)


class _Trajectories:
    def __init__(
        self,
        denoiser: Denoiser,
        goal: Goal,
        seeds: Sequence[int],
        jitter: bool,
        fraction: float,
        frozen: Frozen | None,
    ) -> None:
        import torch

        self._denoiser = denoiser
        self._batch = ConditioningBatch(denoiser)
        self._goal = goal
        self._seeds = seeds
        self._random = torch.Generator().manual_seed(seeds[0]) if jitter else None
        self._fraction = fraction
        self._frozen = frozen
        self._points: list[Point] = []

    def points(self, steps: int, scale: float) -> list[Point]:
        import torch

        denoiser = self._denoiser
        with patched_method(denoiser.module, denoiser.call_attribute, self._hooked), torch.no_grad():
            denoiser.pipe(
                [self._goal.prompt] * len(self._seeds),
                num_inference_steps=steps,
                guidance_scale=scale,
                generator=[torch.Generator().manual_seed(seed) for seed in self._seeds],
                output_type="latent",
            )
        return self._points

    def _hooked(self, network: Method) -> Method:
        def ask(*args: Any, **kwargs: Any) -> Any:
            call = self._denoiser.bind_arguments(args, kwargs)
            raw = network(**call)
            output, images = (raw[0] if isinstance(raw, tuple) else raw.sample), len(self._seeds)
            if len(output) not in (images, 2 * images):
                raise ModelError(
                    f"the pipeline calls the network with {len(output)} rows for {images} images."
                )
            asked = self._batch.select_rows(call, slice(None))
            guided = len(output) == 2 * images
            if guided and not (self._goal.others or self._random or self._frozen):
                predictions = dict(zip(("", self._goal.prompt), output.chunk(2), strict=True))
            else:
                asked, predictions = self._again(network, asked, guided)
            asked = self._batch.select_rows(asked, slice(-images, None))
            targets = self._goal.target(predictions)
            self._points += [
                Point(self._batch.select_rows(asked, slice(row, row + 1)), targets[row : row + 1])
                for row in range(images)
            ]
            done = len(self._points) // images
            if done >= self._fraction * len(self._denoiser.pipe.scheduler.timesteps):
                self._denoiser.pipe._interrupt = True  # the attribute with which diffusers ends a call
            return raw

        return ask

    def _again(self, network: Method, call: Arguments, guided: bool) -> tuple[Arguments, dict[str, Tensor]]:
        """Return the call and the predictions by text.

        The prediction for the empty prompt is the pipeline's unconditional prediction, if it computes one.
        """
        if self._random is not None:
            call = {**call, "timestep": self._jittered(call, guided)}
        texts = self._goal.others if guided else ("", *self._goal.others)
        every_row = tuple(range(len(self._seeds)))
        with self._frozen() if self._frozen else nullcontext():
            answer = self._batch.predict(network, call, [Branch(text, every_row) for text in texts])
        own = ("", self._goal.prompt) if guided else (self._goal.prompt,)
        outputs = (*answer.rows.chunk(len(own)), *answer.branches)
        return call, dict(zip((*own, *texts), outputs, strict=True))

    def _jittered(self, call: Arguments, guided: bool) -> Tensor:
        """Return timesteps drawn uniformly between the current one and the next noisier one."""
        import torch

        timestep: Tensor = call["timestep"]
        now, timesteps = self._denoiser.timestep(call), self._denoiser.pipe.scheduler.timesteps
        noisier = timesteps[timesteps > now]
        gap = float(noisier.min() - now) if len(noisier) else float(now - timesteps[timesteps < now].max())
        share = torch.rand(len(self._seeds), generator=self._random).to(timestep.device)
        share = share.repeat(2 if guided else 1)
        moved = share * gap if len(noisier) else -share * gap
        if not timestep.is_floating_point():
            return timestep + moved.long()
        # The transformer of FLUX takes the scheduler's timesteps divided by 1000.
        unit = float(timestep.flatten()[0] / now) if now else 1.0
        return timestep + moved * unit
