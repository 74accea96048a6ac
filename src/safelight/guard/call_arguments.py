"""The arguments of a pipeline call that generates some of the images of a request."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safelight.guard.arguments import is_prompt
from safelight.guard.inputs import Inputs
from safelight.guard.request import Request

_PLAIN = (bool, int, float, complex, str, type(None))


@dataclass(frozen=True, slots=True)
class CallArguments:
    """The arguments of the pipeline calls for one request; image ``i`` is generated with ``seed + i``.

    ``inputs`` are the caller's own arguments; ``seed`` is None if there is a generator among them.
    """

    request: Request
    inputs: Inputs
    seed: int | None

    @property
    def given(self) -> Mapping[str, Any]:
        return self.inputs.arguments

    @property
    def texts(self) -> tuple[str, ...]:
        """The names of the arguments that may have one text for each image of a call."""
        return tuple(name for name, value in self.given.items() if value is not None and is_prompt(name))

    def of(self, numbers: Sequence[int]) -> dict[str, Any]:
        """Return the arguments of a call that generates these images.

        If they are all images of some prompts, the call is the one that an unguarded pipeline would get.
        """
        n = self.request.n
        whole = [number // n for number in numbers][::n]
        if list(numbers) != [prompt * n + i for prompt in whole for i in range(n)]:
            return self.apart(numbers)
        return self._of(whole, numbers, n)

    def apart(self, numbers: Sequence[int]) -> dict[str, Any]:
        """Return the arguments of a call that generates these images, with one prompt for each image."""
        return self._of([number // self.request.n for number in numbers], numbers, 1)

    def prompt(self, number: int) -> str:
        return self.request.prompts[number // self.request.n]

    def compatible(self) -> Hashable | None:
        """Return a key that is equal for requests that can share a call; None if this one cannot share.

        Texts may differ, since every image has its own. A request with input images cannot share a call, nor
        can one with generators: a failed call changes their state, so it could not be repeated.
        """
        texts = self.texts
        others = {name: value for name, value in self.given.items() if name not in texts}
        if self.inputs.images or not all(map(_is_plain, others.values())):
            return None
        if not all(map(self._has_one_text_each, texts)):
            return None
        return tuple(sorted(texts)), tuple(sorted((name, repr(value)) for name, value in others.items()))

    def _has_one_text_each(self, name: str) -> bool:
        value = self.given.get(name)
        if isinstance(value, list | tuple) and len(value) == len(self.request.prompts):
            return all(isinstance(text, str) for text in value)
        return isinstance(value, str)

    def _of(self, prompts: Sequence[int], numbers: Sequence[int], n: int) -> dict[str, Any]:
        arguments = self.inputs.only(prompts, len(self.request.prompts), self.given)
        arguments["generator"] = self._generators(numbers)
        texts = [self.request.prompts[prompt] for prompt in prompts]
        return {**arguments, "prompt": texts, "num_images_per_prompt": n}

    def _generators(self, numbers: Sequence[int]) -> Any:
        given = self.given.get("generator")
        if self.seed is None:
            return [given[i] for i in numbers] if isinstance(given, list) else given
        import torch

        return [torch.Generator().manual_seed(self.seed + number) for number in numbers]


def _is_plain(value: Any) -> bool:
    """Whether two values of this type are equal if and only if their ``repr`` is."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(each) for key, each in value.items())
    return isinstance(value, _PLAIN)
