"""Exit codes of commands that ask a policy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import typer

from safelight.types import Action

DONE, WRONG, REFUSED = 0, 2, 3

Threshold = Literal["never", "review", "steer", "blur", "block"]
FailOn = Annotated[
    Threshold, typer.Option(help="Exit with 3 if the policy says this about anything, or something severer.")
]


def exit_code(failed: bool, actions: Iterable[Action], fail_on: Threshold) -> int:
    """What could not be looked at matters more than what was refused."""
    if failed:
        return WRONG
    refused = fail_on != "never" and any(action >= Action(fail_on) for action in actions)
    return REFUSED if refused else DONE
