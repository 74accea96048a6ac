"""``safelight hash``: the hashes of pictures, for a list of known ones."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safelight.cli import terminal

if TYPE_CHECKING:
    from safelight.cli.items import Item
    from safelight.filters.image.pdq import Pdq

_WRONG = 2


def hash_pictures(
    pictures: Annotated[list[str], typer.Argument(metavar="PICTURE", help="Pictures and folders of them.")],
) -> None:
    """Print the hashes of pictures: one JSON object a line, ready to be a list for known-image.

    "pdq" is null where the picture shows too little for its hash to tell it from others. Exits with 2 if a
    picture could not be read; the others are hashed all the same. Needs the extra "hashes".

    \b
    Examples:
      safelight hash pictures/ > ours.jsonl
    """
    from safelight.cli.items import read_items
    from safelight.filters.image.pdq import PdqHasher

    hasher = PdqHasher()

    failed = False
    for item in read_items(pictures, io.BytesIO(), stage="image"):
        if item.kind == "picture":
            terminal.print_json(_hashes(item, hasher(item.value)))
        else:
            failed = True
            terminal.complain(f"{item.name}: {item.value}")
    if failed:
        raise typer.Exit(_WRONG)


def _hashes(item: Item, pdq: Pdq) -> dict[str, Any]:
    from safelight.filters.image.pdq import LEAST_QUALITY

    data = Path(item.key["path"]).read_bytes()
    return {
        **item.key,
        "pdq": pdq.hex if pdq.quality >= LEAST_QUALITY else None,
        "quality": pdq.quality,
        "sha256": hashlib.sha256(data).hexdigest(),
        "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
    }
