"""``safelight hash``: hashes of images, ready to be a list for the filter ``known-image``."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safelight.cli import terminal
from safelight.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from safelight.hashing.pdq import Pdq

_WRONG = 2


def hash_images(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE", help="Image files, folders of images, or glob patterns.")
    ],
) -> None:
    """Print image hashes as JSON lines, for the filter known-image.

    An image has one line for each of its frames, and one more where it is transparent, as it looks on white.
    "pdq" is null where the image has too little detail for a reliable perceptual hash. Exits
    with 2 if an image could not be read; the others are hashed all the same. Needs the extra "hashes".

    \b
    Examples:
      safelight hash images/ > ours.jsonl
    """
    from safelight.cli.items import read_items
    from safelight.hashing.pdq import PdqHasher
    from safelight.images import open_image

    hasher, failed = PdqHasher(), False
    for item in read_items(images, io.BytesIO(), stage="image"):
        try:
            if item.kind != "image":
                raise ImageError(item.value)
            for view in open_image(item.value):
                terminal.print_json({**item.key, **_hashes(view, hasher(view))})
        except ImageError as error:
            failed = True
            terminal.complain(f"{item.name}: {error}")
    if failed:
        raise typer.Exit(_WRONG)


def _hashes(view: Image, pdq: Pdq) -> dict[str, Any]:
    from safelight.hashing.pdq import MIN_QUALITY

    return {
        "pdq": pdq.hex if pdq.quality >= MIN_QUALITY else None,
        "quality": pdq.quality,
        "sha256": view.info["sha256"],
        "md5": view.info["md5"],
    }
