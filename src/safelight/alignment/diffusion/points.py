"""Points on the way from noise to an image, where the network that is edited and the frozen one meet."""

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

# Of the predictions for some texts, by text, each (N, …), what is to be predicted instead.
Target = Callable[[Mapping[str, "Tensor"]], "Tensor"]
Frozen = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Point:
    """One row of a call of the network, about x_t and a text, and what it is to answer, (1, …)."""

    call: Arguments
    target: Tensor


@dataclass(frozen=True, slots=True)
class Goal:
    """Images of ``prompt`` are begun; on the way the network is to answer to it with the ``target``, which
    knows the predictions for it, for no text and for ``others``."""

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
    part: float = 1.0,
    frozen: Frozen | None = None,
) -> list[Point]:
    """Every step of a generation from each seed, guided by ``scale``, is a point.

    The way, or ``part`` of it, from the noise on, is walked once, by the network as it is. With ``jitter``
    the timestep asked about is drawn between a step's and the noisier one before it, as in the paper; else
    the predictions that led on are used again. In the context that ``frozen`` gives the network is what it
    was before any edit.
    """
    return _Walk(denoiser, goal, seeds, jitter, part, frozen).points(steps, scale)


class _Walk:
    def __init__(
        self,
        denoiser: Denoiser,
        goal: Goal,
        seeds: Sequence[int],
        jitter: bool,
        part: float,
        frozen: Frozen | None,
    ) -> None:
        import torch

        self._denoiser = denoiser
        self._rows = ConditioningBatch(denoiser)
        self._goal = goal
        self._seeds = seeds
        self._random = torch.Generator().manual_seed(seeds[0]) if jitter else None
        self._part = part
        self._frozen = frozen
        self._points: list[Point] = []

    def points(self, steps: int, scale: float) -> list[Point]:
        import torch

        denoiser = self._denoiser
        with patched_method(denoiser.module, denoiser.entrance, self._hooked), torch.no_grad():
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
            call = self._denoiser.named(args, kwargs)
            raw = network(**call)
            output, images = (raw[0] if isinstance(raw, tuple) else raw.sample), len(self._seeds)
            if len(output) not in (images, 2 * images):
                raise ModelError(f"the pipeline asks about {len(output)} rows for {images} images.")
            asked = self._rows.only(call, slice(None))
            guided = len(output) == 2 * images
            if guided and not (self._goal.others or self._random or self._frozen):
                said = dict(zip(("", self._goal.prompt), output.chunk(2), strict=True))
            else:
                asked, said = self._again(network, asked, guided)
            asked = self._rows.only(asked, slice(-images, None))
            targets = self._goal.target(said)
            self._points += [
                Point(self._rows.only(asked, slice(row, row + 1)), targets[row : row + 1])
                for row in range(images)
            ]
            walked = len(self._points) // images
            if walked >= self._part * len(self._denoiser.pipe.scheduler.timesteps):
                self._denoiser.pipe._interrupt = True  # diffusers' own way to end a call
            return raw

        return ask

    def _again(self, network: Method, asked: Arguments, guided: bool) -> tuple[Arguments, dict[str, Tensor]]:
        """No text is what the pipeline itself has in its place; where it has nothing, the empty one."""
        if self._random is not None:
            asked = {**asked, "timestep": self._jittered(asked, guided)}
        texts = self._goal.others if guided else ("", *self._goal.others)
        everybody = tuple(range(len(self._seeds)))
        with self._frozen() if self._frozen else nullcontext():
            answer = self._rows.ask(network, asked, [Branch(text, everybody) for text in texts])
        own = ("", self._goal.prompt) if guided else (self._goal.prompt,)
        outputs = (*answer.rows.chunk(len(own)), *answer.wanted)
        return asked, dict(zip((*own, *texts), outputs, strict=True))

    def _jittered(self, asked: Arguments, guided: bool) -> Tensor:
        """Uniform between the timestep and the next noisier one, which comes before it."""
        import torch

        asked_about: Tensor = asked["timestep"]
        now, timesteps = self._denoiser.timestep(asked), self._denoiser.pipe.scheduler.timesteps
        noisier = timesteps[timesteps > now]
        gap = float(noisier.min() - now) if len(noisier) else float(now - timesteps[timesteps < now].max())
        share = torch.rand(len(self._seeds), generator=self._random).to(asked_about.device)
        share = share.repeat(2 if guided else 1)
        moved = share * gap if len(noisier) else -share * gap
        if not asked_about.is_floating_point():
            return asked_about + moved.long()
        counted = float(asked_about.flatten()[0] / now) if now else 1.0  # FLUX is asked in thousandths
        return asked_about + moved * counted
