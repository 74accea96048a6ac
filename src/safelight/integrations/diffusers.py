"""A guard as the ``safety_checker`` of a diffusers pipeline."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safelight.errors import FilterError, MissingExtraError
from safelight.guard.guard import Guard
from safelight.types import Action, Verdict

try:
    import torch
    from diffusers.pipelines.cosmos import pipeline_cosmos2_5_predict, pipeline_cosmos3_omni
except ImportError as error:
    raise MissingExtraError("A safety checker for diffusers", "generate") from error

_LOGGER = logging.getLogger(__name__)

# These two pipelines silently skip the check of images unless their checker is an instance of the class that
# they import: NVIDIA's if cosmos_guardrail is installed, else each module's own stand-in.
_COSMOS = dict.fromkeys(m.CosmosSafetyChecker for m in (pipeline_cosmos2_5_predict, pipeline_cosmos3_omni))


class SafetyChecker(*_COSMOS):  # type: ignore[misc]
    """A safety checker for the pipelines of Stable Diffusion and Cosmos that screens images with a guard.

    ``guard`` is a guard, or the name or path of a policy to build one from. Images that the policy would
    steer, blur or block are flagged, since these pipelines can only replace whole images. If the guard
    raises, all images are flagged. Raises ``FilterError`` if the policy has no image filter, and the errors
    of ``Guard.from_policy``.
    """

    def __init__(self, guard: Guard | str | Path) -> None:
        # The bases' own initialisers load NVIDIA's models, or raise because they are not installed.
        if isinstance(self, torch.nn.Module):
            torch.nn.Module.__init__(self)
        self.guard = guard if isinstance(guard, Guard) else Guard.from_policy(guard)
        if "image" not in self.guard.versions():
            name = self.guard.policy.name
            raise FilterError(f'the policy "{name}" has no image filter; list one under [filters].')
        self._place = torch.empty(0)

    def __call__(self, images: Any, clip_input: Any = None) -> tuple[Any, list[bool]]:
        """Return ``images`` with flagged ones blacked out in place, and a list that tells which are flagged.

        ``images`` are as pipelines pass them: arrays with values in [0, 1], tensors in [-1, 1], or a list of
        these or of PIL images. ``clip_input`` is not used.
        """
        images = list(images) if isinstance(images, tuple) else images
        flagged = self._flagged([_shown(image) for image in images])
        if isinstance(images, np.ndarray) and not images.flags.writeable:
            images = images.copy()
        for row, bad in enumerate(flagged):
            if bad:
                images[row] = _black(images[row])
        return images, flagged

    def check_text_safety(self, prompt: str) -> bool:
        """Return whether the policy allows a prompt."""
        try:
            return self.guard.screen_prompts([prompt])[0].action < Action.STEER
        except Exception as error:  # noqa: BLE001 - any failure flags the image
            _report_failure(error)
            return False

    def check_video_safety(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """Return the frames, (T, H, W, C), or None if any of them is flagged."""
        if not isinstance(frames, np.ndarray) or frames.ndim != 4 or frames.dtype != np.uint8:
            return None
        return None if any(self._flagged(list(frames)) or [True]) else frames

    def to(self, *args: Any, **kwargs: Any) -> SafetyChecker:
        """Set the reported device and dtype; the filters stay on the device that the policy names."""
        self._place = self._place.to(*args, **kwargs)
        return self

    @property
    def device(self) -> torch.device:
        return self._place.device

    @property
    def dtype(self) -> torch.dtype:
        return self._place.dtype

    def __deepcopy__(self, memo: object) -> SafetyChecker:
        # A copied pipeline shares the guard, because filters may have state that cannot be copied.
        return self

    def _flagged(self, images: Sequence[Any]) -> list[bool]:
        try:
            verdicts = self.guard.screen_images(images) if images else []
            flagged = [verdict.action >= Action.STEER for verdict in verdicts]
        except Exception as error:  # noqa: BLE001 - any failure flags the image
            _report_failure(error)
            return [True] * len(images)
        if any(flagged):
            _report(verdicts, sum(flagged))
        return flagged


def _shown(image: Any) -> Any:
    """Return the image as the pipeline would return it; None, which the guard blocks, if it is invalid."""
    if isinstance(image, Image.Image):
        return image
    try:
        if torch.is_tensor(image):
            image = (image.detach().float() / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).cpu().numpy()
        return _eight_bit(image)
    except Exception as error:  # noqa: BLE001 - any failure flags the image
        _report_failure(error)
        return None


def _eight_bit(image: Any) -> Any:
    if not isinstance(image, np.ndarray) or image.ndim != 3:
        return None
    image = image[..., 0] if image.shape[-1] == 1 else image
    if image.dtype == np.uint8:
        return image
    scaled = (image * 255).round()
    # Written so that NaN fails the check as well.
    return scaled.astype(np.uint8) if np.all((scaled >= 0) & (scaled <= 255)) else None


def _black(image: Any) -> Any:
    if isinstance(image, Image.Image):
        return Image.new("RGB", image.size)
    if torch.is_tensor(image):
        return torch.zeros_like(image)
    return np.zeros_like(image) if isinstance(image, np.ndarray) else None


def _report(verdicts: Sequence[Verdict], count: int) -> None:
    """Log how many images were blacked out and why, since a black image looks like a failure."""
    names = sorted({name for v in verdicts for name, c in v.categories.items() if c.action >= Action.STEER})
    why = ", ".join(names) or "a filter failed"
    _LOGGER.warning(
        '%d of %d images are withheld by the policy "%s" (%s).', count, len(verdicts), verdicts[0].policy, why
    )


def _report_failure(error: Exception) -> None:
    """Log the error's type alone, since its message may quote a prompt."""
    _LOGGER.error("the safety checker failed (%s), so this is flagged.", type(error).__name__)
