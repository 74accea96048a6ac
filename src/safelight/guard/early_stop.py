"""Early stopping: harm is detected in an image long before the image is finished.

After some of the denoising steps the model's current estimate of the finished image, x₀, is computed from
its guided output, decoded and screened. An image in which harm is detected is stopped; a call ends once all
of its images are stopped.
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

# The largest side of decoded estimates, in pixels; they have too little detail for a larger one.
_SIDE_PX = 256

# A function of the number of steps done, the total number of steps, and the estimated images.
Look = Callable[[int, int, list["Image"]], None]


class StopGeneration(Exception):  # noqa: N818 - it does not report an error
    """Raised inside a pipeline's scheduler to end the call; it does not report an error."""


class EarlyStops:
    """Screens the unfinished images of one request, and stops those that the policy would block.

    ``numbers`` are the numbers of the images, in the order of the call. Screening does not change any image,
    as it uses no random numbers. ``stopped`` maps the number of a stopped image to the step after which it
    was stopped and the total number of steps; ``verdicts`` maps it to the reason.
    """

    def __init__(self, rule: EarlyStop, screen: Screen, numbers: Sequence[int]) -> None:
        self.at = rule.at
        self._score = rule.score
        self._screen = screen
        self._numbers = tuple(numbers)
        self.begin()

    def begin(self) -> None:
        """Reset the state at the start of a call, which may repeat one that failed."""
        self._looked = 0
        self.stopped: dict[int, tuple[int, int]] = {}
        self.verdicts: list[Verdict] = []

    @property
    def all_stopped(self) -> bool:
        """Whether every image was stopped."""
        return len(self.stopped) == len(self._numbers)

    def look(self, done: int, of: int, images: Sequence[Image], deadline: Deadline) -> None:
        """Screen ``images``, one for each number, if the policy does so after ``done`` of ``of`` steps."""
        due = sum(step <= done for step in peek_steps(self.at, of))
        open_ = [row for row, number in enumerate(self._numbers) if number not in self.stopped]
        if due <= self._looked or not open_:
            return
        self._looked = due
        numbers = [self._numbers[row] for row in open_]
        for verdict in self._screen(
            [images[row] for row in open_], GENERATED_IMAGE, numbers, deadline=deadline
        ):
            if self._stops(verdict):
                self.stopped[verdict.index] = done, of
                self.verdicts.append(verdict)

    def _stops(self, verdict: Verdict) -> bool:
        """Whether the verdict stops the image; a failed filter does not, as it runs again at the end."""
        scores = verdict.categories.values()
        certain = any(c.action is Action.BLOCK and c.score >= self._score for c in scores)
        return certain and not verdict.reasons


def peek_steps(at: Iterable[float], steps: int) -> list[int]:
    """Return the steps after which images are screened, in order, given the shares ``at``."""
    return sorted({math.ceil(share * steps - 1e-9) for share in at})


@contextmanager
def watched(
    pipe: Any,
    at: Sequence[float],
    look: Look,
    arguments: Mapping[str, Any] | None = None,
    each_step: Callable[[], None] | None = None,
) -> Iterator[list[str]]:
    """Call ``look`` with the estimated images after each share ``at`` of the pipeline's steps.

    ``each_step`` is called after every evaluation of the denoiser, before the scheduler's step. Yields a list
    of problems: if the images cannot be estimated, it gets a sentence and ``look`` is not called. With a
    second-order scheduler ``look`` is called once both halves of the step are done.
    """
    problems: list[str] = []
    scheduler = getattr(pipe, "scheduler", None)
    if at and (scheduler is None or not hasattr(pipe, "vae")):
        problems.append(f"a {type(pipe).__name__} has no scheduler and autoencoder to estimate images with.")
    if not hasattr(scheduler, "step"):
        yield problems
        return
    done, looked = 0, 0

    def with_look(take: Method) -> Method:
        def step(output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
            nonlocal done, looked
            done += 1
            if each_step:
                each_step()
            of = _steps(pipe, scheduler)
            due = sum(peek <= done for peek in peek_steps(at, of))
            if due > looked and not problems and not is_mid_step(scheduler):
                looked = due
                if images := _estimated(pipe, (output, timestep, sample), arguments or {}, problems):
                    look(done, of, images)
            return take(output, timestep, sample, *args, **kwargs)

        return step

    with patched_method(scheduler, "step", with_look):
        yield problems


def _estimated(
    pipe: Any, step: tuple[Tensor, Any, Tensor], arguments: Mapping[str, Any], problems: list[str]
) -> list[Image]:
    """Return the estimated images; if they cannot be estimated, add a problem and return no images."""
    output, timestep, sample = step
    try:
        return decoded(pipe, predicted_original(pipe.scheduler, output, timestep, sample), arguments)
    except Exception as error:  # noqa: BLE001 - pipelines differ in every way, and the call must go on
        problems.append(f"{type(error).__name__}: {error}")
        return []


def _steps(pipe: Any, scheduler: Any) -> int:
    return int(getattr(pipe, "num_timesteps", None) or len(scheduler.timesteps))


def decoded(pipe: Any, latents: Tensor, arguments: Mapping[str, Any]) -> list[Image]:
    """Decode latents, (N, C, H, W) or packed as those of FLUX, to images of at most 256 pixels a side."""
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
    """Decode in single precision where the autoencoder says that it overflows in half precision."""
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
