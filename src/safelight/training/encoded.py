"""Encoded training data: the latents of images, cached on disk, and their captions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safelight.errors import ImageError, RequestError
from safelight.images import open_image
from safelight.storage.atomic_write import atomic_write

_ABOUT, _LATENTS, _ROWS = "encoded.json", "latents.f16", "rows.jsonl"
# The number of pixels that are encoded in one batch.
_BATCH_PX = 250 * 64 * 64

# A function from images, (N, side, side, 3) in uint8, to latents, (N, …).
Encoder = Callable[[NDArray[np.uint8]], NDArray[np.float16]]


@dataclass(frozen=True, slots=True)
class Example:
    """An image file's bytes, and the caption of the image."""

    image: bytes
    caption: str


@dataclass(frozen=True)
class Data:
    """Images with captions; ``about`` identifies the data, such as a hash."""

    examples: Iterable[Example]
    about: str


@dataclass(frozen=True, slots=True)
class Square:
    """The square centre crop of an image's first frame, resized to (side, side, 3).

    ``size``, (height, width), is the size of the original image, and ``corner``, (top, left), the position of
    the crop in the resized image.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    corner: tuple[int, int]

    @classmethod
    def of(cls, image: bytes, side: int) -> Self | None:
        """Return the centre crop of an encoded image; None if it cannot be decoded."""
        try:
            frame = next(iter(open_image(image)), None)
        except ImageError:
            return None
        if frame is None:
            return None
        least = min(frame.size)
        left, top = (frame.width - least) // 2, (frame.height - least) // 2
        square = frame.crop((left, top, left + least, top + least))
        if side != least:
            square = square.resize((side, side), Image.Resampling.LANCZOS)
        corner = (top * side // least, left * side // least)
        return cls(np.asarray(square), (frame.height, frame.width), corner)


@dataclass(frozen=True)
class Encoded:
    """Encoded training data.

    ``latents``, (N, …), are memory-mapped; ``sizes`` and ``corners``, (N, 2), are explained in ``Square``.
    """

    latents: NDArray[np.float16]
    captions: tuple[str, ...]
    sizes: NDArray[np.int64]
    corners: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.captions)

    @classmethod
    def read(cls, folder: Path) -> Self:
        about = json.loads((folder / _ABOUT).read_text())
        rows = [json.loads(line) for line in (folder / _ROWS).read_text("utf-8").splitlines()]
        latents = np.memmap(folder / _LATENTS, np.float16, "r", shape=(len(rows), *about["shape"]))
        places = np.array([(row["size"], row["corner"]) for row in rows])
        return cls(latents, tuple(row["caption"] for row in rows), places[:, 0], places[:, 1])


def encode(data: Data, folder: Path, side: int, encoder: Encoder, of: str = "") -> Encoded:
    """Encode all images of ``data``, cropped to squares of ``side`` pixels, with ``encoder``.

    The result is cached in ``folder``; if it is there already, it is read and no image is encoded. ``of``
    identifies the encoder. Raises ``RequestError`` if the folder has other data, or if there is no image.
    """
    file, about = folder / _ABOUT, {"data": data.about, "encoder": of, "side": side}
    if file.exists():
        if {**about, "shape": None} != {**json.loads(file.read_text()), "shape": None}:
            raise RequestError(f"{folder} has other data in it; give another folder, or remove it.")
        return Encoded.read(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shape: list[int] = []
    rest, batch_size = iter(data.examples), max(1, _BATCH_PX // side**2)
    with (folder / _LATENTS).open("wb") as latents, (folder / _ROWS).open("w", encoding="utf-8") as rows:
        while chunk := list(islice(rest, batch_size)):
            squares = [(each, square) for each in chunk if (square := Square.of(each.image, side))]
            if squares:
                encoded = encoder(np.stack([square.pixels for _, square in squares]))
                shape = list(encoded.shape[1:])
                latents.write(np.ascontiguousarray(encoded, np.float16).tobytes())
            for each, square in squares:
                row = {"caption": each.caption, "size": square.size, "corner": square.corner}
                rows.write(json.dumps(row) + "\n")
    if not shape:
        raise RequestError("the data has no image with a caption; give data with captions.")
    with atomic_write(file) as part:
        part.write_text(json.dumps({**about, "shape": shape}) + "\n")
    return Encoded.read(folder)
