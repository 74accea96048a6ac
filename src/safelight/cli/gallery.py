"""The folder that images are written to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safelight.errors import RequestError

if TYPE_CHECKING:
    from PIL.Image import Image

_LONGEST_NAME = 48


@dataclass(frozen=True, slots=True)
class Gallery:
    """A folder that is there. ``Gallery.at`` makes it."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> Gallery:
        """Raises ``RequestError`` if the folder is not there and cannot be made."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"{folder} cannot be made: {error.strerror}; give another --out.") from error
        return cls(folder)

    def add(self, image: Image, prompt: str, seed: int) -> Path:
        """Saves the image under its prompt and seed; raises ``RequestError`` if that fails."""
        path = self.folder / f"{_slug(prompt)}-{seed}.png"
        try:
            image.save(path)
        except OSError as error:
            raise RequestError(
                f"{path} cannot be written: {error.strerror or error}; give another --out."
            ) from error
        return path


def _slug(prompt: str) -> str:
    words = re.findall(r"[a-z0-9]+", prompt.casefold())
    return "-".join(words)[:_LONGEST_NAME].rstrip("-") or "image"
