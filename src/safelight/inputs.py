"""What a pipeline call brings along beside its prompt: more texts, pictures, and what nobody can screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image

from safelight.errors import ImageError, PromptError, RequestError
from safelight.request import prompt_problem

_FIXED = {
    "output_type": ("pil", "the guard screens pictures; leave output_type as it is."),
    "return_dict": (True, "the guard returns a Result; leave return_dict as it is."),
    "num_images_per_prompt": (1, "say n for the number of pictures, not num_images_per_prompt."),
}


@dataclass(frozen=True, slots=True)
class Inputs:
    """The arguments that must be screened, by name: ``texts`` (negative_prompt, prompt_2 …), ``images``."""

    texts: Mapping[str, tuple[str, ...]]
    images: Mapping[str, tuple[Image, ...]]

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Inputs:
        """Raises ``RequestError`` for embeddings and tensors: what cannot be screened is refused."""
        texts: dict[str, tuple[str, ...]] = {}
        images: dict[str, tuple[Image, ...]] = {}
        for name, value in arguments.items():
            _check(name, value)
            if value is None:
                continue
            if "prompt" in name and name not in _FIXED:
                texts[name] = _texts(name, value)
            elif pictures := tuple(_pictures(value)):
                images[name] = pictures
        return cls(texts, images)

    def only(self, prompts: Sequence[int], of: int, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """``arguments`` for some of ``of`` prompts: one text goes to each, lists by prompt are cut."""
        return {name: self._only(prompts, of, name, value) for name, value in arguments.items()}

    def _only(self, prompts: Sequence[int], of: int, name: str, value: Any) -> Any:
        if name in self.texts and isinstance(value, str):
            return [value] * len(prompts)
        screened = name in self.texts or name in self.images
        if screened and isinstance(value, list | tuple) and len(value) == of:
            return [value[i] for i in prompts]
        return value


def _check(name: str, value: Any) -> None:
    if value is None:
        return
    if name in _FIXED and value != _FIXED[name][0]:
        raise RequestError(_FIXED[name][1])
    if "embeds" in name:
        raise RequestError(f"{name} cannot be screened; give the prompt as text.")
    if "image" in name and any(hasattr(item, "shape") or isinstance(item, str) for item in _flat(value)):
        raise ImageError(f"{name} cannot be screened like this; give a PIL picture.")


def _texts(name: str, value: Any) -> tuple[str, ...]:
    texts = tuple(value) if isinstance(value, list | tuple) else (value,)
    for text in texts:
        problem = prompt_problem(text)
        if problem and text != "":
            raise PromptError(f"{name}: {problem}")
    return tuple(text for text in texts if text)


def _pictures(value: Any) -> Iterator[Image]:
    return (item for item in _flat(value) if isinstance(item, Image))


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flat(item)
    else:
        yield value
