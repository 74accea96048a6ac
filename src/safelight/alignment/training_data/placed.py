"""Files that are put in their place when they are complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safelight.errors import RequestError, first_line


@contextmanager
def placed(folder: Path, path: str) -> Iterator[Path]:
    """Where to write what is to be at ``path`` in ``folder``; nothing remains of what ends with an error."""
    whole = folder / path
    whole.parent.mkdir(parents=True, exist_ok=True)
    part = whole.with_name(f"{whole.name}.part")
    try:
        yield part
        part.replace(whole)
    finally:
        part.unlink(missing_ok=True)


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


def place_text(folder: Path, name: str, text: str) -> Path:
    """Gives where it is. Raises ``RequestError`` if it cannot be written; then nothing of it is there."""
    with writing(folder), placed(folder, name) as part:
        part.write_text(text, "utf-8", newline="")
    return folder / name
