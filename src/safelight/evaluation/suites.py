"""Loading of suites by name, as on the command line: a prompt file or a registered suite."""

from __future__ import annotations

from pathlib import Path

from safelight import registry
from safelight.errors import RequestError, unknown_name
from safelight.evaluation.prompt_file import read_suite
from safelight.types import Suite


def load_suite(text: str, limit: int | None = None) -> Suite:
    """Return the first ``limit`` prompts of the prompt file or registered suite that ``text`` names.

    A file takes precedence over a suite of the same name. Raises ``RequestError`` if there is neither, for a
    limit below 1, and the errors of ``read_suite``.
    """
    if limit is not None and limit < 1:
        raise RequestError(f"limit is {limit}; it is a number of prompts, at least 1.")
    path = Path(text)
    if path.is_file():
        return read_suite(path, limit)
    names = registry.names("suite")
    if text not in names:
        raise RequestError(f"there is no file {path}, and {unknown_name('suite', text, names)}")
    suite: Suite = registry.build("suite", text, count=limit)
    return suite
