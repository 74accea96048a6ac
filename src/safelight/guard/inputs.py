"""The arguments of a pipeline call other than its prompt: texts, images, and values that cannot be screened.

Every argument is screened (all texts and images in it, in nested containers too), allowed by its name
(numbers and random generators), or refused. The pipeline gets plain copies of what was screened.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from PIL.Image import Image

from safelight.concurrency.deadline import Deadline
from safelight.errors import ImageError, PromptError, RequestError
from safelight.guard import arguments as known
from safelight.guard.image_inputs import decoded, image_copy, images_of_array, is_array, is_encoded
from safelight.guard.request import RequestLimits, plain_text, prompt_problem
from safelight.images import ImageLimits

_DEPTH = 16
_MOST_VALUES = 10_000


@dataclass(frozen=True, slots=True)
class Inputs:
    """The arguments of a pipeline call.

    ``texts`` (negative_prompt, prompt_2 …) and ``images`` must be screened; both are keyed by argument.
    ``arguments`` are all arguments as the pipeline gets them.
    """

    texts: Mapping[str, tuple[str, ...]]
    images: Mapping[str, tuple[Image, ...]]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        arguments: Mapping[str, Any],
        allowed: Sequence[str] = (),
        limits: RequestLimits | None = None,
        image_limits: ImageLimits | None = None,
        deadline: Deadline | None = None,
    ) -> Inputs:
        """Read the arguments; those in ``allowed`` may have values that cannot be screened.

        Raises ``RequestError`` for values that can be neither screened nor allowed or exceed the limits, and
        what ``deadline`` raises.
        """
        limits, image_limits = limits or RequestLimits(), image_limits or ImageLimits()
        texts: dict[str, tuple[str, ...]] = {}
        images: dict[str, tuple[Image, ...]] = {}
        plain: dict[str, Any] = {}
        for given, value in arguments.items():
            name = plain_text(given)
            reader = _Reader(name, name in allowed, limits, image_limits, deadline or Deadline())
            plain[name] = reader.read(name, name, value)
            if found := tuple(filter(None, reader.texts)):
                texts[name] = found
            if reader.images:
                images[name] = tuple(reader.images)
        _check_size(texts, images, limits)
        return cls(texts, images, plain)

    def only(self, prompts: Sequence[int], of: int, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``arguments`` for some of ``of`` prompts.

        A single text is repeated for each prompt; a list with one item per prompt keeps the items of these.
        """
        return {name: _only(prompts, of, name, value) for name, value in arguments.items()}


def _only(prompts: Sequence[int], of: int, name: str, value: Any) -> Any:
    if known.is_prompt(name) and isinstance(value, str):
        return [value] * len(prompts)
    if known.goes_by_prompt(name) and isinstance(value, list | tuple) and len(value) == of:
        return [value[i] for i in prompts]
    return value


def _check_size(
    texts: Mapping[str, Sequence[str]], images: Mapping[str, Sequence[Image]], limits: RequestLimits
) -> None:
    every = [text for some in texts.values() for text in some]
    if len(every) + sum(map(len, images.values())) > limits.inputs:
        raise RequestError(f"the arguments have more than {limits.inputs} texts and images; give fewer.")
    if sum(map(len, every)) > limits.characters_of_all:
        raise PromptError(f"the texts have more than {limits.characters_of_all} characters; shorten them.")


class _Reader:
    """Copies one argument and collects the texts and images in it."""

    def __init__(
        self,
        argument: str,
        opened: bool,
        limits: RequestLimits,
        image_limits: ImageLimits,
        deadline: Deadline,
    ) -> None:
        self._argument = argument
        self._opened = opened
        self._limits = limits
        self._image_limits = image_limits
        self._deadline = deadline
        self._values = 0
        self.texts: list[str] = []
        self.images: list[Image] = []

    def read(self, name: str, place: str, value: Any, depth: int = 0) -> Any:
        """Return the copy of ``value``, an argument or key ``name``; ``place`` names it in errors."""
        if value is None:
            return None
        if known.is_fixed(name):
            return known.fixed(name, value)
        if not self._opened:
            if known.is_generator(name):
                return known.generators(place, value)
            if known.is_number(name):
                return known.numbers(place, value)
            if known.is_opaque(name):
                raise RequestError(known.refusal(self._argument, place, value))
            if known.is_prompt(name):
                return self._prompts(place, value)
        return self._walk(name, place, value, depth)

    def _prompts(self, place: str, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self._text(place, each) for each in value]
        return self._text(place, value)

    def _walk(self, name: str, place: str, value: Any, depth: int) -> Any:
        """Copy lists and dictionaries; the keys of a dictionary are treated as names of arguments."""
        self._values += 1
        if depth > _DEPTH or self._values > _MOST_VALUES:
            raise RequestError(f"{self._argument} has too many nested lists and values; give a simpler one.")
        if isinstance(value, dict):
            return {
                (text := self._key(place, key)): self.read(str(text), f"{place}.{text}", item, depth + 1)
                for key, item in dict.items(value)
            }
        if isinstance(value, list | tuple):
            each = [None if item is None else self._walk(name, place, item, depth + 1) for item in value]
            return tuple(each) if isinstance(value, tuple) else each
        return self._leaf(name, place, value)

    def _leaf(self, name: str, place: str, value: Any) -> Any:
        self._deadline.check()
        if isinstance(value, Image):
            return self._images(image_copy(place, value, self._image_limits))
        if self._opened:
            return self._text(place, value) if isinstance(value, str) else value
        if known.takes_images(name):
            return self._given_image(place, value)
        if isinstance(value, str):
            return self._text(place, value)
        raise RequestError(known.refusal(self._argument, place, value))

    def _given_image(self, place: str, value: Any) -> Any:
        if is_array(value):
            return self._images(images_of_array(place, value, self._image_limits))
        if is_encoded(value):
            return self._images(decoded(place, value, self._image_limits, self._deadline))
        if isinstance(value, str | os.PathLike):
            raise ImageError(f"{place} is a path or a text, which cannot be screened; give a PIL image.")
        raise RequestError(known.refusal(self._argument, place, value))

    def _images(self, images: Any) -> Any:
        self.images += images if isinstance(images, list) else [images]
        return images

    def _text(self, place: str, text: Any) -> str:
        plain = plain_text(text) if isinstance(text, str) else text
        problem = prompt_problem(plain, self._limits.characters)
        if problem and not (isinstance(plain, str) and not plain.strip()):
            raise PromptError(f"{place}: {problem}")
        self.texts.append(plain)
        return cast(str, plain)

    def _key(self, place: str, key: Any) -> Any:
        """Screen a key: pipelines use the keys of some dictionaries as prompts."""
        if not isinstance(key, str):
            if self._opened:
                return key
            raise RequestError(f"{place} has the key {type(key).__name__}; its keys are text.")
        plain = plain_text(key)
        named = known.is_number(plain) or known.is_fixed(plain) or known.is_generator(plain)
        return plain if named else self._text(place, plain)
