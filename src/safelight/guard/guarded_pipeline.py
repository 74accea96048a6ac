"""A guarded pipeline: it is used like the diffusers pipeline that it wraps, and every call is screened."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from PIL.Image import Image

from safelight.errors import BlockedError, RequestError
from safelight.images.placeholder import with_placeholders
from safelight.protocols import Pipeline
from safelight.types import Action, Result

# Largest side of a placeholder image, in pixels: a blocked request may have asked for any size.
_LARGEST_CARD = 2048
_OWN = frozenset({"guard", "pipe", "placeholders"})
# Arguments of a call that go to the guard and not to the pipeline.
_GUARD_OPTIONS = ("seed", "deadline_s")


class Generates(Protocol):
    """The interface of a guard that a guarded pipeline uses."""

    def generate(self, pipe: Pipeline, prompt: str | Sequence[str], n: int = 1, **arguments: Any) -> Result:
        """Generate and screen ``n`` images for each prompt."""
        ...


@dataclass(frozen=True, eq=False)
class GuardedOutput:
    """The output of a guarded call: a diffusers output with the attributes of the guard's ``Result``.

    ``images`` has the released images and, if placeholders were requested, a placeholder for each blocked
    image. ``nsfw_content_detected`` has an entry for every image of the request, which is true for an image
    that was blocked or blurred; ``indices`` are the numbers of the released images. ``verdicts``, ``action``
    and all other attributes are those of the result.
    """

    images: Any
    nsfw_content_detected: list[bool]
    result: Result

    def to_tuple(self) -> tuple[Any, list[bool]]:
        """Return the output as the tuple that ``return_dict=False`` gives."""
        return self.images, self.nsfw_content_detected

    def keys(self) -> tuple[str, ...]:
        return ("images", "nsfw_content_detected")

    def __getitem__(self, key: int | slice | str) -> Any:
        if isinstance(key, str):
            return dict(zip(self.keys(), self.to_tuple(), strict=True))[key]
        return self.to_tuple()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_tuple())

    def __len__(self) -> int:
        return len(self.to_tuple())

    def __getattr__(self, name: str) -> Any:
        # copy and pickle look up special methods before there is a result.
        if name.startswith("__") or name == "result":
            raise AttributeError(name)
        return getattr(self.result, name)


class GuardedPipeline:
    """Screens the calls of ``pipe``; all other attributes are read from and set on the pipeline.

    Methods that return the pipeline itself, such as ``to``, return this object. Only the call is screened:
    other methods that generate images, and the components of the pipeline, are unchanged.
    """

    guard: Generates
    pipe: Any
    placeholders: bool

    def __init__(self, guard: Generates, pipe: Pipeline, placeholders: bool = False) -> None:
        vars(self).update(guard=guard, pipe=pipe, placeholders=placeholders)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Generate and screen images; return a ``GuardedOutput``, or a tuple with ``return_dict=False``.

        The arguments are those of the pipeline, and ``seed`` and ``deadline_s`` of ``Guard.generate``. The
        pipeline always generates PIL images, which are screened; for the output types "np" and "pt" the
        released images are converted. Raises ``BlockedError`` if no image is released and no placeholders
        were requested, and what ``Guard.generate`` raises.
        """
        own = {name: kwargs.pop(name) for name in _GUARD_OPTIONS if name in kwargs}
        arguments = _named(self.pipe, args, kwargs)
        convert = _converter(arguments.pop("output_type", "pil"))
        return_dict = arguments.pop("return_dict", True)
        n = arguments.pop("num_images_per_prompt", None)
        prompt = arguments.pop("prompt", None)
        if arguments.keys() & {"n", "pipe"}:
            raise RequestError(
                "use num_images_per_prompt for the number of images, and leave n and pipe out."
            )
        result = self.guard.generate(
            self.pipe, "" if prompt is None else prompt, n=1 if n is None else n, **own, **arguments
        )
        count = (1 if isinstance(prompt, str) else len(prompt or ())) * result.images_per_prompt
        images = self._images(result, arguments)
        output = GuardedOutput(convert(images), [_flagged(result, i) for i in range(count)], result)
        return output if return_dict else output.to_tuple()

    def _images(self, result: Result, arguments: Mapping[str, Any]) -> list[Image]:
        """Return the images for the caller. Raises ``BlockedError`` if there are none."""
        if self.placeholders:
            return with_placeholders(result, None if result.images else _size(arguments))
        if not result.images:
            worst = max(result.verdicts, key=lambda verdict: verdict.action.severity)
            raise BlockedError(f'the policy "{worst.policy}" says {worst.explain()}.', result.verdicts)
        return list(result.images)

    def __getattr__(self, name: str) -> Any:
        # copy and pickle look up special methods before there is a pipeline.
        if name.startswith("__") or name in _OWN:
            raise AttributeError(name)
        value = getattr(self.pipe, name)
        return self._method(value) if inspect.ismethod(value) else value

    def _method(self, method: Any) -> Any:
        """Return the pipeline's method, wrapped so that it returns this object instead of the pipeline."""

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            answer = method(*args, **kwargs)
            return self if answer is self.pipe else answer

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            vars(self)[name] = value
        else:
            setattr(self.pipe, name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self.pipe)})

    def __repr__(self) -> str:
        return f"GuardedPipeline({self.pipe!r})"


def _named(pipe: Pipeline, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the call's arguments by name. Raises ``TypeError`` for one that the pipeline does not take."""
    signature = inspect.signature(pipe)
    named: dict[str, Any] = {}
    for name, value in signature.bind_partial(*args, **kwargs).arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            named |= value
        else:
            named[name] = value
    return named


def _size(arguments: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the width and height of the call; None if they are missing or too large for a placeholder."""
    sides = arguments.get("width"), arguments.get("height")
    width, height = (side if isinstance(side, int) and 0 < side <= _LARGEST_CARD else 0 for side in sides)
    return (width, height) if width and height else None


def _flagged(result: Result, number: int) -> bool:
    return number not in result.indices or result.action_of(number) >= Action.BLUR


def _converter(output_type: Any) -> Any:
    """Return the function that converts a list of PIL images to ``output_type``."""
    converters = {"pil": list, "np": _arrays, "pt": _tensors}
    if not isinstance(output_type, str) or output_type not in converters:
        raise RequestError(
            f'output_type is "pil", "np" or "pt", not {output_type!r}: latents cannot be screened.'
        )
    return converters[output_type]


def _arrays(images: Sequence[Image]) -> Any:
    """Return float32 in [0, 1] of shape (image, row, column, channel), as diffusers does."""
    import numpy as np

    return np.stack([np.asarray(image.convert("RGB"), np.float32) / 255 for image in images])


def _tensors(images: Sequence[Image]) -> Any:
    """Return float32 in [0, 1] of shape (image, channel, row, column), as diffusers does."""
    import torch

    return torch.from_numpy(_arrays(images).transpose(0, 3, 1, 2).copy())
