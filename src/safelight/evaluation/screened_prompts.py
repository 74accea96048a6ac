"""Screens many prompts for an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from safelight.errors import FilterError
from safelight.guard.guard import Guard
from safelight.types import Verdict

_AT_ONCE = 100


def screened(guard: Guard, prompts: Sequence[str]) -> list[Verdict]:
    """Return the verdicts on prompts, screened in batches because a policy's timeout is for a whole batch.

    Raises ``FilterError`` for a filter that fails.
    """
    verdicts: list[Verdict] = []
    for start in range(0, len(prompts), _AT_ONCE):
        some = guard.screen_prompts(prompts[start : start + _AT_ONCE])
        if all(verdict.reasons for verdict in some):
            raise FilterError(f"no prompt could be screened: {some[0].reasons[0]}")
        verdicts += some
    return verdicts
