"""Photographs in a folder, to train and measure on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from safelight.errors import ImageError, RequestError
from safelight.images import images_in, open_image


def photographs(folder: Path) -> Iterator[Image.Image]:
    """Yield the first frame of every image below ``folder``, sorted by path.

    Raises ``RequestError`` for a folder without images, and for an image that cannot be read.
    """
    paths = images_in(folder)
    if not paths:
        raise RequestError(f"{folder} has no images; give a folder of photographs.")
    for path in paths:
        try:
            yield next(iter(open_image(path)))
        except ImageError as error:
            raise RequestError(f"{path} cannot be used ({error}); remove it.") from error
