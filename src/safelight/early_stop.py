"""Stopping early: what a picture will show is seen long before it is finished.

At some of the steps the picture that the model is heading for, x₀, is computed from its guided output,
decoded and screened. A picture in which harm is seen coming is dropped; a call all of whose pictures are
dropped ends there and then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from safelight.errors import ModelError
from safelight.noise_schedule import between_orders, predicted_original
from safelight.policy import EarlyStop
from safelight.replaced import Method, replaced
from safelight.screening import Screen
from safelight.types import Action, Stop, Verdict

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

# What is coming is coarse: nothing is lost by decoding it no larger than this.
_SIDE_PX = 256

# Is given the number of steps that are done, how many there are, and the pictures as they would become.
Look = Callable[[int, int, list["Image"]], None]


class _Enough(Exception):  # noqa: N818 - nothing went wrong
    """Ends the call of a pipeline from inside its scheduler."""


class Peeks:
    """Calls a pipeline and stops what must not become a picture.

    ``numbers`` are those of the pictures that the call will give, in order. Afterwards ``stopped`` has those
    that were dropped, and ``verdicts`` say why; ``problem`` says why nobody could look. Peeking changes no
    picture: it draws no random numbers.
    """

    def __init__(self, rule: EarlyStop, screen: Screen, numbers: Sequence[int]) -> None:
        self._rule = rule
        self._screen = screen
        self._numbers = tuple(numbers)
        self._stops: dict[int, tuple[int, int]] = {}
        self._done = 0
        self.verdicts: list[Verdict] = []
        self.problem: str | None = None

    def call(self, pipe: Any, arguments: Mapping[str, Any]) -> Any:
        """What the pipeline gives; None if everything was stopped. Where nobody can look, it draws all the
        same: the finished pictures are screened.
        """
        try:
            with watched(pipe, self._rule.at, self._look, arguments) as problems:
                answer = pipe(**arguments)
            self.problem = next(iter(problems), None)
            return answer
        except _Enough:
            if free := getattr(pipe, "maybe_free_model_hooks", None):
                free()
            return None

    @property
    def stopped(self) -> dict[int, Stop]:
        """By picture; steps are saved only where no other picture of the call needed them."""
        everything = len(self._stops) == len(self._numbers)
        return {
            number: Stop(step, of, of - self._done if everything else 0)
            for number, (step, of) in self._stops.items()
        }

    def _look(self, done: int, of: int, images: list[Image]) -> None:
        self._done = done
        if len(images) != len(self._numbers):
            raise ModelError(f"the pipeline makes {len(images)} pictures, not {len(self._numbers)}.")
        open_ = [row for row, number in enumerate(self._numbers) if number not in self._stops]
        numbers = [self._numbers[row] for row in open_]
        for verdict in self._screen([images[row] for row in open_], "picture", numbers):
            if self._decides(verdict):
                self._stops[verdict.index] = done, of
                self.verdicts.append(verdict)
        if len(self._stops) == len(self._numbers):
            raise _Enough

    def _decides(self, verdict: Verdict) -> bool:
        """A filter that failed decides nothing here: the finished picture meets it again."""
        seen = verdict.categories.values()
        sure = any(c.action is Action.BLOCK and c.score >= self._rule.score for c in seen)
        return sure and not verdict.reasons


def peek_steps(at: Iterable[float], steps: int) -> list[int]:
    """The steps after which somebody looks, of so many, in order."""
    return sorted({math.ceil(share * steps - 1e-9) for share in at})


@contextmanager
def watched(
    pipe: Any, at: Sequence[float], look: Look, arguments: Mapping[str, Any] | None = None
) -> Iterator[list[str]]:
    """While it lasts, ``look`` sees what the pipeline is heading for, after each share ``at`` of its steps.

    Gives a list, to which it adds a sentence if what is coming cannot be made out: then nobody looks. With a
    scheduler of second order ``look`` comes as soon as the step is whole.
    """
    problems: list[str] = []
    if (scheduler := getattr(pipe, "scheduler", None)) is None or not hasattr(pipe, "vae"):
        yield [f"a {type(pipe).__name__} has no scheduler and autoencoder to look into."]
        return
    done, looked = 0, 0

    def looking(take: Method) -> Method:
        def step(output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
            nonlocal done, looked
            done += 1
            of = _steps(pipe, scheduler)
            due = sum(peek <= done for peek in peek_steps(at, of))
            if due > looked and not problems and not between_orders(scheduler):
                looked = due
                if images := _coming(pipe, (output, timestep, sample), arguments or {}, problems):
                    look(done, of, images)
            return take(output, timestep, sample, *args, **kwargs)

        return step

    with replaced(scheduler, "step", looking):
        yield problems


def _coming(
    pipe: Any, step: tuple[Tensor, Any, Tensor], arguments: Mapping[str, Any], problems: list[str]
) -> list[Image]:
    """The pictures that the pipeline is heading for; none, and a problem, if they cannot be made out."""
    output, timestep, sample = step
    try:
        return decoded(pipe, predicted_original(pipe.scheduler, output, timestep, sample), arguments)
    except Exception as error:  # noqa: BLE001 - pipelines differ in every way, and the pictures must go on
        problems.append(f"{type(error).__name__}: {error}")
        return []


def _steps(pipe: Any, scheduler: Any) -> int:
    return int(getattr(pipe, "num_timesteps", None) or len(scheduler.timesteps))


def decoded(pipe: Any, latents: Tensor, arguments: Mapping[str, Any]) -> list[Image]:
    """Latents (N, C, H, W), or packed as FLUX has them, as pictures of at most 256 pixels a side."""
    import torch

    with torch.no_grad():
        latents = _small(pipe, _unpacked(pipe, latents, arguments))
        config = pipe.vae.config
        if config.get("latents_mean") is not None and config.get("latents_std") is not None:
            mean, std = (
                torch.tensor(config[name]).view(1, -1, 1, 1).to(latents)
                for name in ("latents_mean", "latents_std")
            )
            latents = latents * std / config.scaling_factor + mean
        else:
            latents = latents / config.scaling_factor + (config.get("shift_factor") or 0.0)
        with _upcast(pipe):
            pixels = pipe.vae.decode(latents.to(pipe.vae.dtype), return_dict=False)[0]
    images: list[Image] = pipe.image_processor.postprocess(pixels.float(), output_type="pil")
    return images


def _unpacked(pipe: Any, latents: Tensor, arguments: Mapping[str, Any]) -> Tensor:
    if latents.ndim == 4:
        return latents
    if latents.ndim != 3 or not hasattr(pipe, "_unpack_latents"):
        raise ModelError(f"latents of shape {tuple(latents.shape)} cannot be decoded.")
    default = pipe.default_sample_size * pipe.vae_scale_factor
    height, width = (arguments.get(side) or default for side in ("height", "width"))
    unpacked: Tensor = pipe._unpack_latents(latents, height, width, pipe.vae_scale_factor)
    return unpacked


def _small(pipe: Any, latents: Tensor) -> Tensor:
    from torch.nn import functional

    longest = max(latents.shape[-2:]) * pipe.vae_scale_factor
    if longest <= _SIDE_PX:
        return latents
    small = functional.interpolate(latents.float(), scale_factor=_SIDE_PX / longest, mode="area")
    return small.to(latents.dtype)


@contextmanager
def _upcast(pipe: Any) -> Iterator[None]:
    """Some autoencoders overflow in half precision, and say so."""
    import torch

    vae = pipe.vae
    needed = vae.dtype == torch.float16 and vae.config.get("force_upcast")
    if needed:
        vae.to(torch.float32)
    try:
        yield
    finally:
        if needed:
            vae.to(torch.float16)
