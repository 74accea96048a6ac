"""The largest images that are let through, and larger ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

from PIL import Image

from fuzz import icc_profiles
from fuzz.image_seeds import encoded, noise, srgb, turned_exif
from fuzz.png_parts import END, every_view, profile_chunk, solid_png
from safelight.images.colours import is_table_based

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


_PROFILES = {"matrix": icc_profiles.matrix, "table": icc_profiles.table, "press": icc_profiles.press}


def _rich(profile: str) -> dict[str, bytes]:
    """A turn, and a profile."""
    return {"exif": turned_exif(), "icc_profile": _PROFILES[profile]()}


def _png() -> Family:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        yield mode, partial(_large, mode, "png", compress_level=0)
    for mode, profile in product(("L", "LA", "P", "RGB", "RGBA"), ("matrix", "table")):
        name = f"{mode} with a {profile} profile"
        yield name, partial(_large, mode, "png", compress_level=1, **_rich(profile))
    yield "RGBA with a table profile behind its pixels", _png_with_a_late_profile


def _jpeg() -> Family:
    for mode, progressive in product(("L", "RGB", "CMYK"), (False, True)):
        options = {"quality": 90, "progressive": progressive}
        name = f"{mode} {'progressive' if progressive else 'baseline'}"
        yield name, partial(_large, mode, "jpeg", **options)
        for profile in ("press",) if mode == "CMYK" else ("matrix", "table"):
            rich = {**options, **_rich(profile)}
            yield f"{name} with a {profile} profile", partial(_large, mode, "jpeg", **rich)


def _png_with_a_late_profile() -> bytes:
    """Whoever asks before the pixels are decoded does not see it."""
    plain = _large("RGBA", "png", compress_level=1)
    end = len(END)
    return plain[:-end] + profile_chunk(icc_profiles.table()) + END


def _webp() -> Family:
    for mode, image, profile in product(("RGB", "RGBA"), (_noise, _smooth), ("matrix", "table")):
        name, rich = f"{mode} {image.__name__[1:]} with a {profile} profile", _rich(profile)
        quality = 42 if profile == "matrix" else 90  # as much as the bytes allowed
        yield name, partial(_large, mode, "webp", image, lossless=False, quality=quality, method=0, **rich)
        yield f"{name} lossless", partial(_large, mode, "webp", image, quality=0, method=0, **rich)


def _avif() -> Family:
    for mode, quality, profile in product(("RGB", "RGBA"), (50, 90), ("matrix", "table")):
        rich = {"quality": quality, "speed": 10, **_rich(profile)}
        yield f"{mode} {quality} with a {profile} profile", partial(_large, mode, "avif", _smooth, **rich)
    yield "noise", partial(_large, "RGB", "avif", quality=30, speed=10)


def _tiff() -> Family:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "I;16", "I", "F"):
        profile = {"icc_profile": icc_profiles.press()} if mode == "CMYK" else {}
        yield mode, partial(_large, mode, "tiff", **profile)
    for packing in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield packing, partial(_large, "RGB", "tiff", compression=packing)
    for packing in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        yield f"{packing} smooth", partial(_large, "RGBA", "tiff", _smooth, compression=packing)


def _noise(mode: str, height: int) -> Image.Image:
    return noise((SIDE, height), mode)


def _smooth(mode: str, height: int) -> Image.Image:
    return noise((64, 64), "RGBA").resize((SIDE, height), Image.Resampling.BICUBIC).convert(mode)


def _large(mode: str, name: str, image: Callable[[str, int], Image.Image] = _noise, **options: Any) -> bytes:
    counts_double = mode in ("CMYK", "LAB") or is_table_based(options.get("icc_profile"))
    return encoded(image(mode, SIDE // 2 if counts_double else SIDE), name, **options)


def oversized() -> Case:
    """Images beyond the limits, which took half a minute and gigabytes before there were any."""
    yield "png", "8192 x 8192 with 12 views", partial(solid_png, 8192, 8192, every_view(), colours=6)
    yield "tiff", "8 pages of 8192 x 8192", eight_pages
    yield "tiff", "8 pages of 4096 x 4096", partial(eight_pages, SIDE)


def eight_pages(side: int = 8192) -> bytes:
    page = Image.new("RGBA", (side, side), (9, 99, 199, 128))
    options = {"icc_profile": srgb(), "compression": "tiff_adobe_deflate"}
    return encoded(page, "tiff", save_all=True, append_images=[page] * 7, **options)
