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
    """An existing folder for images; ``Gallery.at`` creates it."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> Gallery:
        """Return the gallery in ``folder``, created if missing.

        Raises ``RequestError`` if it cannot be created.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(
                f"{folder} cannot be created: {error.strerror}; give another --output."
            ) from error
        return cls(folder)

    def add(self, image: Image, prompt: str, seed: int) -> Path:
        """Save the image under a name made of its prompt and seed, and return its path.

        Raises ``RequestError`` if it cannot be written.
        """
        path = self.folder / f"{_slug(prompt)}-{seed}.png"
        try:
            image.save(path)
        except OSError as error:
            raise RequestError(
                f"{path} cannot be written: {error.strerror or error}; give another --output."
            ) from error
        return path


def _slug(prompt: str) -> str:
    words = re.findall(r"[a-z0-9]+", prompt.casefold())
    return "-".join(words)[:_LONGEST_NAME].rstrip("-") or "image"
