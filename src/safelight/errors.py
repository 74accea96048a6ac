"""The exceptions that safelight raises.

    SafelightError
    ├── PolicyError         a policy file is invalid or missing
    ├── RegistryError       a component is unknown, has a name twice, or does not take an option
    ├── ModelError          a model is missing, altered, unsafe to load, or its output is invalid
    ├── FilterError         a filter cannot be built or has failed, or a stage has no filter
    ├── MissingExtraError   an optional part of safelight is not installed
    ├── RequestError        a request cannot be carried out as asked
    │   ├── PromptError     … because of its prompt
    │   └── ImageError      … because of an image given to it
    ├── DeadlineError       a request took longer than its deadline
    ├── RequestCancelledError  the caller cancelled the request
    ├── QueueFullError      too many requests are waiting already
    └── BlockedError        a guarded call was blocked; has the verdicts

Each message is one sentence that explains how to solve the problem.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from safelight.types import Verdict


class SafelightError(Exception):
    """The base class of all errors that safelight raises."""


class PolicyError(SafelightError): ...


class RegistryError(SafelightError): ...


class ModelError(SafelightError): ...


class FilterError(SafelightError): ...


class MissingExtraError(SafelightError):
    """The optional dependencies ``extra`` are missing, which ``what`` needs; ``otherwise`` names an
    alternative.

    The advice is right for an installation from a clone and from a Git address alike.
    """

    def __init__(self, what: str, extra: str, otherwise: str = "") -> None:
        advice = f'install safelight again with it (in a clone: pip install ".[{extra}]")'
        super().__init__(f'{what} needs the extra "{extra}": {advice}{otherwise}.')
        self.extra = extra


class RequestError(SafelightError): ...


class PromptError(RequestError): ...


class ImageError(RequestError): ...


class DeadlineError(SafelightError): ...


class RequestCancelledError(SafelightError): ...


class QueueFullError(SafelightError): ...


class BlockedError(SafelightError):
    """A guarded call was blocked, for the reasons in ``verdicts``."""

    def __init__(self, message: str, verdicts: tuple[Verdict, ...]) -> None:
        super().__init__(message)
        self.verdicts = verdicts


def closest_match(name: str, known: Iterable[str]) -> str | None:
    """Return the name in ``known`` that is most similar to ``name``, or None if none is similar."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """Return an error message for an unknown name, with the known names and the closest match."""
    available = sorted(known)
    sentence = f'there is no {what} "{name}"; available: {", ".join(available) or "none"}'
    near = closest_match(name, available)
    return f'{sentence}; did you mean "{near}"?' if near else f"{sentence}."


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, without the hints and tracebacks that libraries add."""
    return str(error).strip().split("\n")[0]
