"""Loading of the deltas that an evaluation compares."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from safelight.alignment.delta.delta import Delta
from safelight.errors import RequestError
from safelight.models.files import file_sha256


def load_deltas(paths: Sequence[Path], taken: Collection[str] = ()) -> dict[str, Delta]:
    """Return the deltas, keyed by the names of their files.

    Raises ``RequestError`` if two have the same name or one has a ``taken`` name, and the errors of
    ``Delta.load``.
    """
    names = [path.stem for path in paths]
    if twice := next((name for name in names if names.count(name) > 1 or name in taken), None):
        raise RequestError(f'more than one system would be called "{twice}"; rename a file.')
    return {path.stem: Delta.load(path) for path in paths}


def delta_settings(paths: Sequence[Path], deltas: Mapping[str, Delta]) -> dict[str, dict[str, Any]]:
    """Return the hash, the method and the settings of each delta, for the results of an evaluation."""
    return {
        path.stem: {
            "sha256": file_sha256(path),
            "method": deltas[path.stem].about.method,
            **deltas[path.stem].about.settings,
        }
        for path in paths
    }
