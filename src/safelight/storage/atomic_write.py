"""Files that are replaced as a whole or not at all."""

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


def inside(folder: Path, path: str) -> Path:
    """Return ``path`` in ``folder``. Raises ``RequestError`` for a path that leads out of the folder."""
    if leads_out(path):
        raise RequestError(f"{path!r} leads out of the folder {folder}; rename it in the data.")
    return folder / path


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """A full disk is one sentence."""
    try:
        yield
    except OSError as error:
        if isinstance(error, TimeoutError):
            raise
        raise RequestError(unwritable(folder, error)) from error


def unwritable(what: str | Path, error: OSError) -> str:
    return f"{what} cannot be written: {error.strerror or first_line(error)}; make room and run it again."


def leads_out(path: str) -> bool:
    """Return whether some system would take the path for one outside of the folder that it is put into."""
    absolute = path[:1] in ("/", "\\") or _DRIVE.match(path)
    return bool(absolute) or "\0" in path or ".." in _SEPARATORS.split(path)


def place_text(folder: Path, name: str, text: str, private: bool = False) -> Path:
    """Gives where it is; ``private`` text may be read by its owner alone.

    Raises ``RequestError`` if it cannot be written; then nothing of it is there.
    """
    opener = private_opener if private else None
    with (
        writing(folder),
        atomic_write(inside(folder, name)) as part,
        open(part, "w", encoding="utf-8", newline="", opener=opener) as file,
    ):
        file.write(text)
    return folder / name
