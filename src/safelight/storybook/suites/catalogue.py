"""The suites of the storybook by name, registered as ``storybook-<name>``."""

from __future__ import annotations

import random
from functools import partial

from safelight import registry
from safelight.errors import RequestError, unknown_name
from safelight.storybook.suites.parts import OF_ANY_LENGTH, PARTS
from safelight.types import Case, Suite

# The mixed suite of 2,000 cases that model cards quote.
_MODEL = "model"
SUITES = (*PARTS, _MODEL)


def suite(name: str, seed: int = 0, count: int | None = None) -> Suite:
    """Return the suite ``name``, or its first ``count`` cases; the same seed always gives the same cases.

    "benign" and "harmful" can have any number of cases. Raises ``RequestError`` for a name that is not in
    ``SUITES``, for a negative seed and for a count below 1.
    """
    if name not in SUITES:
        raise RequestError(unknown_name("suite", name, SUITES))
    check_request(seed, count)
    if name == _MODEL:
        return Suite(name, seed, tuple(_mixed(seed))[:count])
    if count is not None and name in OF_ANY_LENGTH:
        return Suite(name, seed, tuple(OF_ANY_LENGTH[name](seed, count)))
    return Suite(name, seed, tuple(PARTS[name](seed))[:count])


def check_request(seed: int, count: int | None) -> None:
    """Raise ``RequestError`` for a negative seed and for a count below 1."""
    if seed < 0:
        raise RequestError(f"the seed of a suite is {seed}; it must be at least 0.")
    if count is not None and count < 1:
        raise RequestError(f"the number of cases is {count}; it must be at least 1.")


def _mixed(seed: int) -> list[Case]:
    """Return the cases of all parts, shuffled so that the first ones are a representative sample."""
    cases = [case for part in PARTS.values() for case in part(seed)]
    random.Random(f"{seed} model").shuffle(cases)
    return cases


for _name in SUITES:
    registry.register("suite", f"storybook-{_name}")(partial(suite, _name))
