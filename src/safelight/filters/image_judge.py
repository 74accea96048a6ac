"""What judges of images behind a chat endpoint share: how the image gets there."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safelight.errors import FilterError, no_such
from safelight.filters.chat import ChatJudge, Item

if TYPE_CHECKING:
    from PIL.Image import Image

_ENCODINGS = {
    "jpeg": {"quality": 95},
    "png": {"compress_level": 1},
}  # a seventh more bytes, in a sixth of the time


@dataclass(eq=False)
class ImageJudge(ChatJudge[Item]):
    """Sends images in the request, no longer than ``longest_side`` pixels and without their metadata.

    ``encoding`` is "jpeg" (quality 95) or "png", which loses nothing and is larger.
    """

    longest_side: int = 1024
    encoding: str = "jpeg"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoding not in _ENCODINGS:
            raise FilterError(no_such("encoding of images", self.encoding, _ENCODINGS))
        if self.longest_side < 1:
            raise FilterError("the longest side of an image must be one pixel at least.")

    def _url(self, image: Image) -> str:
        """The image as a data URL."""
        buffer = io.BytesIO()
        try:
            small = _plain(image, self.longest_side)
            small.save(buffer, self.encoding, **_ENCODINGS[self.encoding])
        except (OSError, ValueError, SystemError) as error:
            raise FilterError(f"the image cannot be encoded ({error}).") from error
        return f"data:image/{self.encoding};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _plain(image: Image, longest_side: int) -> Image:
    """Its pixels alone, in RGB, made smaller if need be. Raises ``ValueError`` for an image of none."""
    from PIL import Image as Images

    if 0 in image.size:
        raise ValueError("it has no pixels")
    scale = min(1.0, longest_side / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    pixels = image.convert("RGB")
    if scale < 1:
        pixels = pixels.resize((width, height), Images.Resampling.LANCZOS)
    bare = Images.new("RGB", pixels.size)
    bare.paste(pixels)
    return bare
