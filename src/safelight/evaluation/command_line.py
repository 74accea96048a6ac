"""The command line that repeats a run, as it stands in its results."""

from __future__ import annotations

from collections.abc import Sequence


def command_line(command: str, *arguments: str, **options: object) -> str:
    """Return ``safelight evaluate`` with this command, its arguments and its options.

    Options are named as in Python. One without a value (None) is left out; one with several is repeated.
    """
    words = ["safelight evaluate", command, *arguments]
    for name, value in options.items():
        values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        words += [f"--{name.replace('_', '-')} {each}" for each in values if each is not None]
    return " ".join(words)
