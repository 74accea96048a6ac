"""``safelight hash``: the hashes of pictures, for a list of known ones."""

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


def hash_pictures(
    pictures: Annotated[
        list[str], typer.Argument(metavar="PICTURE", help="Pictures, folders and patterns of them.")
    ],
) -> None:
    """Print the hashes of pictures: one JSON object a line, ready to be a list for known-image.

    A picture has a line for each frame and each way that it can be seen: what is transparent, over white too.
    "pdq" is null where there is too little to see for it to tell the picture from others. Exits with 2 if a
    picture could not be read; the others are hashed all the same. Needs the extra "hashes".

    \b
    Examples:
      safelight hash pictures/ > ours.jsonl
    """
    from safelight.cli.items import read_items
    from safelight.hashing.pdq import PdqHasher
    from safelight.images import open_picture

    hasher, failed = PdqHasher(), False
    for item in read_items(pictures, io.BytesIO(), stage="image"):
        try:
            if item.kind != "picture":
                raise ImageError(item.value)
            for view in open_picture(item.value):
                terminal.print_json({**item.key, **_hashes(view, hasher(view))})
        except ImageError as error:
            failed = True
            terminal.complain(f"{item.name}: {error}")
    if failed:
        raise typer.Exit(_WRONG)


def _hashes(view: Image, pdq: Pdq) -> dict[str, Any]:
    from safelight.hashing.pdq import LEAST_QUALITY

    return {
        "pdq": pdq.hex if pdq.quality >= LEAST_QUALITY else None,
        "quality": pdq.quality,
        "sha256": view.info["sha256"],
        "md5": view.info["md5"],
    }
