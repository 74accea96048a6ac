"""Atomic writes: a file is replaced as a whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safelight.errors import RequestError, first_line
from safelight.storage.private_file import private_opener

_DRIVE = re.compile("[A-Za-z]:")
_SEPARATORS = re.compile(r"[/\\]")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file beside ``path``, and move that file to ``path`` at the end.

    If the block raises, ``path`` stays as it was and the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def path_inside(folder: Path, path: str) -> Path:
    """Return ``path`` in ``folder``. Raises ``RequestError`` for a path that leads out of the folder."""
    if escapes_folder(path):
        raise RequestError(f"{path!r} leads out of the folder {folder}; rename it in the data.")
    return folder / path


@contextmanager
def write_errors(folder: Path) -> Iterator[None]:
    """Raise ``RequestError`` in place of an ``OSError`` other than ``TimeoutError``, such as a full disk."""
    try:
        yield
    except OSError as error:
        if isinstance(error, TimeoutError):
            raise
        raise RequestError(write_error_message(folder, error)) from error


def write_error_message(what: str | Path, error: OSError) -> str:
    """Return the error message for a file or folder that cannot be written."""
    return f"{what} cannot be written: {error.strerror or first_line(error)}; make room and run it again."


def escapes_folder(path: str) -> bool:
    """Return whether any operating system would resolve the relative path to outside of its folder."""
    absolute = path[:1] in ("/", "\\") or _DRIVE.match(path)
    return bool(absolute) or "\0" in path or ".." in _SEPARATORS.split(path)


def write_text(folder: Path, name: str, text: str, private: bool = False) -> Path:
    """Write a text file atomically and return its path; ``private`` files are readable by their owner only.

    Raises ``RequestError`` if it cannot be written or if ``name`` leads out of ``folder``.
    """
    opener = private_opener if private else None
    with (
        write_errors(folder),
        atomic_write(path_inside(folder, name)) as part,
        open(part, "w", encoding="utf-8", newline="", opener=opener) as file,
    ):
        file.write(text)
    return folder / name
