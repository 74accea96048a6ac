"""A request for images, and the checks of its prompts and limits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from safelight.errors import PromptError, RequestError

# The longest prompt, in characters. Pipelines read less than a tenth of it, and filters do not read more.
PROMPT_LIMIT = 10_000

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_LARGEST_SEED = 2**63 - 1


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The limits of one request.

    ``prompts`` limits the number of prompts, ``n`` the images for each prompt, and ``images`` all images of
    the request. ``characters`` limits the length of one prompt; ``characters_of_all`` that of all prompts
    together, and also that of all other texts together. ``inputs`` limits the number of texts and images in
    the arguments of the pipeline. Raises ``RequestError`` for a limit that is not a positive whole number.
    """

    prompts: int = 256
    n: int = 64
    images: int = 1024
    characters: int = PROMPT_LIMIT
    characters_of_all: int = 100 * PROMPT_LIMIT
    inputs: int = 1000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not _is_int(value) or value < 1:
                raise RequestError(f"the limit {field.name} is a positive whole number, not {value!r}.")


_LIMITS = RequestLimits()


def limits_of(limits: RequestLimits | None, prompt_limit: int | None) -> RequestLimits:
    """Return ``limits``, or the default ones, with ``prompt_limit`` characters per prompt if it is given."""
    limits = limits or _LIMITS
    return limits if prompt_limit is None else replace(limits, characters=prompt_limit)


@dataclass(frozen=True, slots=True)
class Request:
    """A request for ``n`` images for each prompt; image ``i`` of all is generated with ``seed + i``."""

    prompts: tuple[str, ...]
    n: int
    seed: int | None

    @classmethod
    def of(
        cls,
        prompt: str | Sequence[str],
        n: int = 1,
        seed: int | None = None,
        limits: RequestLimits = _LIMITS,
    ) -> Request:
        """Return a checked request. Raises ``PromptError`` or ``RequestError`` if it exceeds a limit."""
        prompts = checked_batch([prompt] if isinstance(prompt, str) else prompt)
        _check_prompts(prompts, limits)
        if not _is_int(n) or n < 1:
            raise RequestError("n is the number of images for each prompt, a whole number of at least 1.")
        if n > limits.n or n * len(prompts) > limits.images:
            raise RequestError(
                f"these are too many images; ask for at most {limits.n} for each prompt "
                f"and {limits.images} in one call."
            )
        if seed is not None and (not _is_int(seed) or not 0 <= seed <= _LARGEST_SEED - n * len(prompts)):
            raise RequestError("a seed is a whole number from 0 to 2^63 minus the number of images.")
        return cls(prompts, n, seed)


def _check_prompts(prompts: Sequence[str], limits: RequestLimits) -> None:
    if len(prompts) > limits.prompts:
        raise PromptError(f"{len(prompts)} prompts are too many; give at most {limits.prompts} in one call.")
    for text in prompts:
        if problem := prompt_problem(text, limits.characters):
            raise PromptError(problem)
    if (total := sum(map(len, prompts))) > limits.characters_of_all:
        raise PromptError(
            f"the prompts have {total} characters together; shorten them to {limits.characters_of_all}."
        )


def checked_batch(prompts: Sequence[str]) -> tuple[str, ...]:
    """Return the prompts as a tuple. Raises ``PromptError`` unless they are a non-empty list."""
    if isinstance(prompts, str) or not isinstance(prompts, Sequence):
        raise PromptError(f"give a list of prompts, not {type(prompts).__name__}.")
    batch = tuple(plain_text(prompt) if isinstance(prompt, str) else prompt for prompt in prompts)
    if not batch:
        raise PromptError("the list of prompts is empty; give at least one.")
    return batch


def plain_text(text: str) -> str:
    """Return ``text`` as a plain ``str``; a subclass could show filters and pipeline different text."""
    return str.__str__(text)


def prompt_problem(prompt: object, limit: int = PROMPT_LIMIT) -> str | None:
    """Return a sentence that says why ``prompt`` cannot be screened and used, or None if it can."""
    if not isinstance(prompt, str):
        return f"a prompt is text, not {type(prompt).__name__}."
    if not prompt.strip():
        return "the prompt is empty; describe the image to generate."
    if len(prompt) > limit:
        return f"the prompt has {len(prompt)} characters; shorten it to {limit}."
    if found := _UNPRINTABLE.search(prompt):
        return f"the prompt has the control character U+{ord(found[0]):04X} at {found.start()}; remove it."
    if found := _SURROGATE.search(prompt):
        return f"the prompt has an unpaired surrogate character at {found.start()}; remove it."
    return None


# The maximum number of prompts, images or pairs that one call screens.
ITEM_LIMIT = 1000


def check_count(items: Sequence[object], what: str) -> None:
    """Raise ``RequestError`` for more ``items`` than one call may have."""
    if len(items) > ITEM_LIMIT:
        raise RequestError(f"a call takes at most {ITEM_LIMIT:,} {what}, not {len(items):,}; make several.")
