"""The base of image filters behind a chat endpoint: encodes images for the request."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safelight.errors import FilterError, unknown_name
from safelight.filters.chat import ChatJudge, Item

if TYPE_CHECKING:
    from PIL.Image import Image

_ENCODINGS = {
    "jpeg": {"quality": 95},
    "png": {"compress_level": 1},
}  # level 1 makes files a seventh larger in a sixth of the time


@dataclass(eq=False)
class ImageJudge(ChatJudge[Item]):
    """Sends images as data URLs, without metadata and reduced to at most ``longest_side`` pixels per side.

    ``encoding`` is "jpeg" (quality 95) or "png" (lossless, and larger).
    """

    longest_side: int = 1024
    encoding: str = "jpeg"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoding not in _ENCODINGS:
            raise FilterError(unknown_name("encoding of images", self.encoding, _ENCODINGS))
        if self.longest_side < 1:
            raise FilterError(f"longest_side is {self.longest_side}; it must be at least 1 pixel.")

    def _data_url(self, image: Image) -> str:
        """Return the image as a data URL."""
        buffer = io.BytesIO()
        try:
            small = _resized_rgb(image, self.longest_side)
            small.save(buffer, self.encoding, **_ENCODINGS[self.encoding])
        except (OSError, ValueError, SystemError) as error:
            raise FilterError(f"the image cannot be encoded ({error}).") from error
        return f"data:image/{self.encoding};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _resized_rgb(image: Image, longest_side: int) -> Image:
    """Return the image in RGB, reduced if necessary and without metadata.

    Raises ``ValueError`` for an image without pixels.
    """
    from PIL import Image as Images

    if 0 in image.size:
        raise ValueError("it has no pixels")
    scale = min(1.0, longest_side / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    pixels = image.convert("RGB")
    if scale < 1:
        pixels = pixels.resize((width, height), Images.Resampling.LANCZOS)
    stripped = Images.new("RGB", pixels.size)
    stripped.paste(pixels)
    return stripped
