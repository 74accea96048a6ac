"""Images and captions as a training reads them: latents on disk, written once."""

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
# What is encoded at once, in pixels.
_AT_ONCE = 250 * 64 * 64

# (N, side, side, 3) bytes to latents, (N, …).
Encoder = Callable[[NDArray[np.uint8]], NDArray[np.float16]]


@dataclass(frozen=True, slots=True)
class Example:
    """An image as it is encoded, and its caption."""

    image: bytes
    caption: str


@dataclass(frozen=True)
class Data:
    """Images with captions; ``about`` stands for them, as a hash of them does."""

    examples: Iterable[Example]
    about: str


@dataclass(frozen=True, slots=True)
class Square:
    """The middle of an image's first frame, (side, side, 3). ``size``, (height, width), is what the whole
    had, and ``corner``, (top, left), where the middle begins once it is as small as it is."""

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    corner: tuple[int, int]

    @classmethod
    def of(cls, image: bytes, side: int) -> Self | None:
        """None for what is no image."""
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
    """``latents``, (N, …), are mapped from disk; ``sizes`` and ``corners``, (N, 2), as in ``Square``."""

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
    """Every image of ``data``, cut to a square and made ``side`` pixels wide, through ``encoder``.

    ``folder`` keeps it: what is there is read, and no example. ``of`` says which encoder it is. Raises
    ``RequestError`` if the folder has others, or there is no image.
    """
    file, said = folder / _ABOUT, {"data": data.about, "encoder": of, "side": side}
    if file.exists():
        if {**said, "shape": None} != {**json.loads(file.read_text()), "shape": None}:
            raise RequestError(f"{folder} has other data in it; give another folder, or remove it.")
        return Encoded.read(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shape: list[int] = []
    rest, together = iter(data.examples), max(1, _AT_ONCE // side**2)
    with (folder / _LATENTS).open("wb") as latents, (folder / _ROWS).open("w", encoding="utf-8") as rows:
        while chunk := list(islice(rest, together)):
            squares = [(each, square) for each in chunk if (square := Square.of(each.image, side))]
            if squares:
                encoded = encoder(np.stack([square.pixels for _, square in squares]))
                shape = list(encoded.shape[1:])
                latents.write(np.ascontiguousarray(encoded, np.float16).tobytes())
            for each, square in squares:
                row = {"caption": each.caption, "size": square.size, "corner": square.corner}
                rows.write(json.dumps(row) + "\n")
    if not shape:
        raise RequestError("there is no image with a caption in the data; nothing to train on.")
    with atomic_write(file) as part:
        part.write_text(json.dumps({**said, "shape": shape}) + "\n")
    return Encoded.read(folder)
