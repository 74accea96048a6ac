"""Checks of options that several image filters have."""

from __future__ import annotations

from safelight.errors import FilterError


def check_share(name: str, value: float) -> None:
    """Raise ``FilterError`` unless the option is above 0 and at most 1."""
    if not 0 < value <= 1:
        raise FilterError(f"{name} is {value}; it must be above 0 and at most 1.")


def check_threads(threads: int | None) -> None:
    """Raise ``FilterError`` for a number of threads below 1; None is for one per CPU core."""
    if threads is not None and threads < 1:
        raise FilterError(f"threads is {threads}; give at least 1, or leave it out for one per CPU core.")
