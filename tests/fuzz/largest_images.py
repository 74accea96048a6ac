"""The largest images that are let through, and larger ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

from PIL import Image

from fuzz import icc_profiles
from fuzz.image_seeds import encoded, noise, srgb, turned_exif
from fuzz.png_parts import every_view, solid_png

SIDE = 4096  # the largest square within the limits

Case = Iterator[tuple[str, str, Callable[[], bytes]]]
Family = Iterator[tuple[str, Callable[[], bytes]]]


def largest() -> Case:
    """The largest images within the limits, in every format, mode and packing."""
    for kind, family in (("png", _png), ("jpeg", _jpeg), ("webp", _webp), ("avif", _avif), ("tiff", _tiff)):
        for name, build in family():
            yield kind, f"largest {name}", build
    yield "gif", "largest P", partial(_large, "P", "gif", _smooth)
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield "bmp", f"largest {mode}", partial(_large, mode, "bmp")


def _rich(mode: str = "RGB") -> dict[str, bytes]:
    """A turn, and a profile that takes long to apply."""
    profile = icc_profiles.press() if mode == "CMYK" else icc_profiles.table()
    return {"exif": turned_exif(), "icc_profile": profile}


def _png() -> Family:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        yield mode, partial(_large, mode, "png", compress_level=0)
    for mode in ("L", "LA", "P", "RGB", "RGBA"):
        yield f"{mode} with a profile", partial(_large, mode, "png", compress_level=1, **_rich())


def _jpeg() -> Family:
    for mode, progressive in product(("L", "RGB", "CMYK"), (False, True)):
        options = {"quality": 90, "progressive": progressive}
        name = f"{mode} {'progressive' if progressive else 'baseline'}"
        yield name, partial(_large, mode, "jpeg", **options)
        yield f"{name} with a profile", partial(_large, mode, "jpeg", **options, **_rich(mode))


def _webp() -> Family:
    for mode, image in product(("RGB", "RGBA"), (_noise, _smooth)):
        name = f"{mode} {image.__name__[1:]}"
        yield name, partial(_large, mode, "webp", image, lossless=False, quality=42, method=0, **_rich())
        yield f"{name} lossless", partial(_large, mode, "webp", image, quality=0, method=0, **_rich())


def _avif() -> Family:
    for mode, quality in product(("RGB", "RGBA"), (50, 90)):
        yield (
            f"{mode} {quality}",
            partial(_large, mode, "avif", _smooth, quality=quality, speed=10, **_rich()),
        )
    yield "noise", partial(_large, "RGB", "avif", quality=30, speed=10)


def _tiff() -> Family:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "I;16", "I", "F"):
        profile = {"icc_profile": icc_profiles.press()} if mode == "CMYK" else {}
        yield mode, partial(_large, mode, "tiff", **profile)
    for packing in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield packing, partial(_large, "RGB", "tiff", compression=packing)
    for packing in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        yield f"{packing} smooth", partial(_large, "RGBA", "tiff", _smooth, compression=packing)


def _noise(mode: str) -> Image.Image:
    return noise((SIDE, SIDE // 2 if mode in ("CMYK", "LAB") else SIDE), mode)


def _smooth(mode: str) -> Image.Image:
    return noise((64, 64), "RGBA").resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert(mode)


def _large(mode: str, name: str, image: Callable[[str], Image.Image] = _noise, **options: Any) -> bytes:
    return encoded(image(mode), name, **options)


def oversized() -> Case:
    """Images beyond the limits, which took half a minute and gigabytes before there were any."""
    yield "png", "8192 x 8192 with 12 views", partial(solid_png, 8192, 8192, every_view(), colours=6)
    yield "tiff", "8 pages of 8192 x 8192", eight_pages
    yield "tiff", "8 pages of 4096 x 4096", partial(eight_pages, SIDE)


def eight_pages(side: int = 8192) -> bytes:
    page = Image.new("RGBA", (side, side), (9, 99, 199, 128))
    options = {"icc_profile": srgb(), "compression": "tiff_adobe_deflate"}
    return encoded(page, "tiff", save_all=True, append_images=[page] * 7, **options)
