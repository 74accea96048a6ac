"""``safelight hash``: the hashes of images, for a list of known ones."""

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
        list[str], typer.Argument(metavar="IMAGE", help="Images, folders and patterns of them.")
    ],
) -> None:
    """Print the hashes of images: one JSON object a line, ready to be a list for known-image.

    An image has a line for each frame and each way that it can be seen: what is transparent, over white too.
    "pdq" is null where there is too little to see for it to tell the image from others. Exits with 2 if an
    image could not be read; the others are hashed all the same. Needs the extra "hashes".

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
