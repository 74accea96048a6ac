"""Every error a user can meet.

    SafelightError
    ├── PolicyError         a policy file is wrong or not there
    ├── RegistryError       an unknown component, two of one name, an option it does not take
    ├── ModelError          a model is missing, altered, unsafe to load, or answered nonsense
    ├── FilterError         a filter cannot be built, or a stage has none
    ├── MissingExtraError   an optional part of safelight is not installed
    ├── RequestError        a request cannot be carried out as asked
    │   ├── PromptError     … because of its prompt
    │   └── ImageError      … because of an image given to it
    ├── DeadlineError       a request took longer than its deadline
    ├── RequestCancelledError  the caller cancelled the request
    ├── QueueFullError      too many requests are waiting already
    └── BlockedError        a guarded call was refused; carries the verdicts

Each message is one sentence that says what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from safelight.types import Verdict


class SafelightError(Exception):
    """Base of every error that safelight raises on purpose."""


class PolicyError(SafelightError): ...


class RegistryError(SafelightError): ...


class ModelError(SafelightError): ...


class FilterError(SafelightError): ...


class MissingExtraError(SafelightError):
    """``what`` needs the optional dependencies called ``extra``; ``otherwise`` says how to do without."""

    def __init__(self, what: str, extra: str, otherwise: str = "") -> None:
        super().__init__(f'{what} needs an optional part: pip install "safelight[{extra}]"{otherwise}.')
        self.extra = extra


class RequestError(SafelightError): ...


class PromptError(RequestError): ...


class ImageError(RequestError): ...


class DeadlineError(SafelightError): ...


class RequestCancelledError(SafelightError): ...


class QueueFullError(SafelightError): ...


class BlockedError(SafelightError):
    """A guarded call gave nothing; ``verdicts`` say why."""

    def __init__(self, message: str, verdicts: tuple[Verdict, ...]) -> None:
        super().__init__(message)
        self.verdicts = verdicts


def closest(name: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that ``name`` was most likely meant to be."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def no_such(what: str, name: str, known: Iterable[str]) -> str:
    """One sentence: there is no such thing, what there is, and which one is closest."""
    there_is = sorted(known)
    sentence = f'there is no {what} "{name}"; there is {", ".join(there_is) or "none"}'
    near = closest(name, there_is)
    return f'{sentence}; did you mean "{near}"?' if near else f"{sentence}."


def first_line(error: Exception) -> str:
    """What it says, without the advice and the tracebacks that libraries add."""
    return str(error).strip().split("\n")[0]
