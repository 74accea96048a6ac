"""Exit codes of commands that apply a policy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import typer

from safelight.types import Action

DONE, WRONG, REFUSED = 0, 2, 3

Threshold = Literal["never", "review", "steer", "blur", "block"]
FailOn = Annotated[
    Threshold,
    typer.Option(
        help="Exit with 3 if the policy's action for any item is this one or a more severe one (listed from "
        "mild to severe); never turns this off."
    ),
]


def exit_code(failed: bool, actions: Iterable[Action], fail_on: Threshold) -> int:
    """Return the exit code; ``failed``, an item that could not be screened, takes precedence over actions."""
    if failed:
        return WRONG
    refused = fail_on != "never" and any(action >= Action(fail_on) for action in actions)
    return REFUSED if refused else DONE
