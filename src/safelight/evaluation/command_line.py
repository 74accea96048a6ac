"""The command line that reproduces a run, which is written to its results."""

from __future__ import annotations

from collections.abc import Sequence


def command_line(command: str, *arguments: str, **options: object) -> str:
    """Return ``safelight evaluate`` with this command, its arguments and its options.

    Options are given by their Python names. An option whose value is None is left out, and one with several
    values is repeated.
    """
    words = ["safelight evaluate", command, *arguments]
    for name, value in options.items():
        values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        words += [f"--{name.replace('_', '-')} {each}" for each in values if each is not None]
    return " ".join(words)
