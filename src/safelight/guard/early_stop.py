"""Stopping early: what an image will show is seen long before it is finished.

At some of the steps the image that the model is heading for, x₀, is computed from its guided output,
decoded and screened. An image in which harm is seen coming is given up; a call all of whose images are given
up ends there and then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from safelight.concurrency.deadline import Deadline
from safelight.errors import ModelError
from safelight.models.noise_schedule import is_mid_step, predicted_original
from safelight.models.patched_method import Method, patched_method
from safelight.policy import EarlyStop
from safelight.screening.screen import Screen
from safelight.types import GENERATED_IMAGE, Action, Verdict

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

# What is coming is coarse: nothing is lost by decoding it no larger than this.
_SIDE_PX = 256

# Is given the number of steps that are done, how many there are, and the images as they would become.
Look = Callable[[int, int, list["Image"]], None]


class StopGeneration(Exception):  # noqa: N818 - nothing went wrong
    """Ends the call of a pipeline from inside its scheduler."""


class EarlyStops:
    """Looks at the images of one request while they are made, and gives up those that must not be finished.

    ``numbers`` are those of the images, in the order of the call. Looking changes no image: it draws no
    random numbers. ``stopped`` has by number after which step of how many an image was given up, and
    ``verdicts`` say why.
    """

    def __init__(self, rule: EarlyStop, screen: Screen, numbers: Sequence[int]) -> None:
        self.at = rule.at
        self._score = rule.score
        self._screen = screen
        self._numbers = tuple(numbers)
        self.begin()

    def begin(self) -> None:
        """Forget what was seen: a call begins, perhaps in the place of one that failed."""
        self._looked = 0
        self.stopped: dict[int, tuple[int, int]] = {}
        self.verdicts: list[Verdict] = []

    @property
    def everything(self) -> bool:
        """Whether no image is left."""
        return len(self.stopped) == len(self._numbers)

    def look(self, done: int, of: int, images: Sequence[Image], deadline: Deadline) -> None:
        """Screen ``images``, one for each number, as they are after so many steps, if it is time to."""
        due = sum(step <= done for step in peek_steps(self.at, of))
        open_ = [row for row, number in enumerate(self._numbers) if number not in self.stopped]
        if due <= self._looked or not open_:
            return
        self._looked = due
        numbers = [self._numbers[row] for row in open_]
        for verdict in self._screen(
            [images[row] for row in open_], GENERATED_IMAGE, numbers, deadline=deadline
        ):
            if self._decides(verdict):
                self.stopped[verdict.index] = done, of
                self.verdicts.append(verdict)

    def _decides(self, verdict: Verdict) -> bool:
        """A filter that failed decides nothing here: the finished image meets it again."""
        seen = verdict.categories.values()
        sure = any(c.action is Action.BLOCK and c.score >= self._score for c in seen)
        return sure and not verdict.reasons


def peek_steps(at: Iterable[float], steps: int) -> list[int]:
    """The steps after which somebody looks, of so many, in order."""
    return sorted({math.ceil(share * steps - 1e-9) for share in at})


@contextmanager
def watched(
    pipe: Any,
    at: Sequence[float],
    look: Look,
    arguments: Mapping[str, Any] | None = None,
    each_step: Callable[[], None] | None = None,
) -> Iterator[list[str]]:
    """While it lasts, ``look`` sees what the pipeline is heading for, after each share ``at`` of its steps.

    ``each_step`` is called after every evaluation of the network, before its step is taken. Gives a list, to
    which a sentence is added if what is coming cannot be made out: then nobody looks. With a scheduler of
    second order ``look`` comes as soon as the step is whole.
    """
    problems: list[str] = []
    scheduler = getattr(pipe, "scheduler", None)
    if at and (scheduler is None or not hasattr(pipe, "vae")):
        problems.append(f"a {type(pipe).__name__} has no scheduler and autoencoder to look into.")
    if not hasattr(scheduler, "step"):
        yield problems
        return
    done, looked = 0, 0

    def looking(take: Method) -> Method:
        def step(output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
            nonlocal done, looked
            done += 1
            if each_step:
                each_step()
            of = _steps(pipe, scheduler)
            due = sum(peek <= done for peek in peek_steps(at, of))
            if due > looked and not problems and not is_mid_step(scheduler):
                looked = due
                if images := _coming(pipe, (output, timestep, sample), arguments or {}, problems):
                    look(done, of, images)
            return take(output, timestep, sample, *args, **kwargs)

        return step

    with patched_method(scheduler, "step", looking):
        yield problems


def _coming(
    pipe: Any, step: tuple[Tensor, Any, Tensor], arguments: Mapping[str, Any], problems: list[str]
) -> list[Image]:
    """The images that the pipeline is heading for; none, and a problem, if they cannot be made out."""
    output, timestep, sample = step
    try:
        return decoded(pipe, predicted_original(pipe.scheduler, output, timestep, sample), arguments)
    except Exception as error:  # noqa: BLE001 - pipelines differ in every way, and the images must go on
        problems.append(f"{type(error).__name__}: {error}")
        return []


def _steps(pipe: Any, scheduler: Any) -> int:
    return int(getattr(pipe, "num_timesteps", None) or len(scheduler.timesteps))


def decoded(pipe: Any, latents: Tensor, arguments: Mapping[str, Any]) -> list[Image]:
    """Latents (N, C, H, W), or packed as FLUX has them, as images of at most 256 pixels a side."""
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
