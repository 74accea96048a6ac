"""Reads the images from a pipeline's output, or raises an error that describes the output."""

from __future__ import annotations

from typing import Any

from PIL import Image

from safelight.errors import ModelError, first_line


def plain_images(answer: Any, count: int) -> list[Image.Image]:
    """Return plain copies of the ``count`` images of an output.

    The images that are screened are thereby the ones that are released. Raises ``ModelError`` for any other
    output.
    """
    images: Any = getattr(answer, "images", None)
    given = list(images) if isinstance(images, list | tuple) else []
    if len(given) != count or not all(isinstance(image, Image.Image) for image in given):
        raise ModelError(
            f"the pipeline did not return {count} PIL images but {_described(answer, images)}; "
            'use a pipeline that returns one PIL image per prompt with output_type="pil".'
        )
    return [_copy(image) for image in given]


def _copy(image: Image.Image) -> Image.Image:
    try:
        return Image.Image.copy(image)
    except Exception as error:
        raise ModelError(
            f"an image of the pipeline cannot be read ({type(error).__name__}: {first_line(error)}); "
            "use a pipeline that gives whole images."
        ) from error


def _described(answer: Any, images: Any) -> str:
    """Describe the output in a few words."""
    if images is None:
        return "frames of a video" if hasattr(answer, "frames") else f"{type(answer).__name__} without images"
    if not isinstance(images, list | tuple):
        return f"one {type(images).__name__}"
    kinds = sorted({type(image).__name__ for image in images})
    return f"{len(images)} of the kind {', '.join(kinds)}" if kinds else "none"
