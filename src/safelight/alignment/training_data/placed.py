"""Files that are put in their place when they are complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
