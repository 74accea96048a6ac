"""Small sound images of every format and kind, which mutations start from."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

_OPTIONS: dict[str, dict[str, Any]] = {"webp": {"lossless": True}, "avif": {"quality": 90}}


def encoded(image: Image.Image, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **(_OPTIONS.get(name, {}) | options))
    return file.getvalue()


def noise(size: tuple[int, int], mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Random values, which are the slowest to decode, in any mode."""
    channels = {"L": (), "P": (), "1": (), "LA": (2,), "RGB": (3,), "LAB": (3,), "RGBA": (4,), "CMYK": (4,)}
    random = np.random.default_rng(seed)
    if mode == "F":
        return Image.fromarray(random.random(size[::-1], np.float32))
    if mode in ("I;16", "I"):
        values = random.integers(0, 1 << 16, size[::-1]).astype(np.uint16 if mode == "I;16" else np.int32)
        return Image.fromarray(values)
    values = random.integers(0, 256, (*size[::-1], *channels[mode]), np.uint8)
    if mode in ("LAB", "CMYK"):
        return Image.frombytes(mode, size, values.tobytes())
    if mode == "P":
        image = Image.fromarray(values)
        image.putpalette(random.integers(0, 256, 768, np.uint8).tobytes())
        return image
    return Image.fromarray(values).convert(mode)


def turned_exif(orientation: int = 6) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _all_of(name: str, modes: tuple[str, ...], **options: Any) -> list[bytes]:
    return [encoded(noise((32, 24), mode, 1), name, **options) for mode in modes]


def _frames(name: str, mode: str = "RGB", **options: Any) -> bytes:
    first, *others = [noise((24, 16), mode, seed) for seed in range(3)]
    return encoded(first, name, save_all=True, append_images=others, **options)


@cache
def seeds() -> dict[str, list[bytes]]:
    """By kind of file, as the files of ``make fuzz`` are counted."""
    rich = {"exif": turned_exif(), "icc_profile": srgb()}
    return {
        "png": [
            *_all_of("png", ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), **rich),
            encoded(noise((32, 24), "P"), "png", transparency=3),
            _frames("png", "RGBA"),
        ],
        "jpeg": [
            *_all_of("jpeg", ("L", "RGB", "CMYK"), **rich),
            encoded(noise((40, 40)), "jpeg", progressive=True),
            _frames("mpo"),
        ],
        "webp": [
            *_all_of("webp", ("RGB", "RGBA"), **rich),
            encoded(noise((32, 24), "RGBA"), "webp", lossless=False),
            _frames("webp", "RGBA"),
        ],
        "gif": [
            *_all_of("gif", ("L", "P")),
            _frames("gif"),
            encoded(noise((9, 9), "P"), "gif", transparency=3),
        ],
        "bmp": _all_of("bmp", ("1", "L", "P", "RGB", "RGBA")),
        "tiff": [
            *_all_of("tiff", ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "I;16", "I", "F")),
            *(
                encoded(noise((32, 24)), "tiff", compression=each)
                for each in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
            ),
            encoded(noise((32, 24)), "tiff", big_tiff=True),
            _frames("tiff"),
        ],
        "avif": [*_all_of("avif", ("RGB", "RGBA"), **rich), _frames("avif")],
    }
