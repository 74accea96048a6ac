"""Images made to take long or to need much memory, and the largest ones that are within the limits."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from PIL import Image

from fuzz import icc_profiles
from fuzz.image_seeds import encoded, srgb, turned_exif
from fuzz.largest_images import SIDE, largest, oversized
from fuzz.png_parts import END, chunk, every_view, header, profile_chunk, solid_png

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Hostile:
    """A file that ``build`` makes; ``cheap`` if making and screening it takes less than a second."""

    kind: str
    name: str
    build: Callable[[], bytes]
    cheap: bool


_SLOW = ("largest", "60 MiB", "of 65536", "16 thousand", "999 frames of 16", "60000 frames")


def hostile() -> Iterator[Hostile]:
    for kind, family in _FAMILIES:
        for name, build in family():
            yield Hostile(kind, name, build, not any(part in name for part in _SLOW))
    for kind, name, build in (*largest(), *oversized()):
        yield Hostile(kind, name, build, cheap=False)


Family = Iterator[tuple[str, Callable[[], bytes]]]


# PNG


def _small_png(before: bytes = b"", after: bytes = b"") -> bytes:
    data = chunk(b"IDAT", zlib.compress(bytes(4 * (1 + 12))))
    return header(4, 4) + before + data + after + END


def _png() -> Family:
    for width, height in (
        *((9000, 9000), (20_000, 20_000), (65_535, 65_535), (2**31 - 1, 1), (1, 2**31 - 1)),
        *((0, 0), (1 << 24, 1), (1, 1 << 24), (4096, 4096), (2**31 - 1, 2**31 - 1)),
    ):
        empty = chunk(b"IDAT", zlib.compress(b"\0")) + END
        yield f"claims {width} x {height}", partial(bytes.__add__, header(width, height), empty)
    for kind in (
        b"tEXt",
        b"zTXt",
        b"iTXt",
        b"abCd",
        b"gAMA",
        b"iCCP",
        b"tRNS",
        b"PLTE",
        b"IDAT",
        b"fcTL",
        b"eXIf",
    ):
        flood = partial(_flooded_png, chunk(kind, b"a\0" if kind[1:] == b"TXt" else b""))
        yield f"60 MiB of empty {kind.decode()}", flood
    zeros = zlib.compress(bytes(64 * _MIB))
    million = zlib.compress(("\U0001f600" + "a" * (_MIB - 5)).encode())
    yield "zTXt of 64 MiB", partial(_small_png, chunk(b"zTXt", b"a\0\0" + zeros))
    yield "iCCP of 64 MiB", partial(_small_png, chunk(b"iCCP", b"a\0\0" + zeros))
    for count in (10, 31, 60, 500):
        text = b"".join(chunk(b"iTXt", b"a%d\0\1\0\0\0" % each + million) for each in range(count))
        yield f"{count} iTXt of 1 MiB", partial(_small_png, text)
        yield f"{count} iTXt of 1 MiB at the end", partial(_small_png, b"", text)
    for frames, size in ((999, 4), (5000, 4), (40, 640), (20, SIDE)):
        yield f"APNG of {frames} frames of {size}", partial(_animated_png, frames, size)
    for frames in (249, 300, 999):
        yield f"APNG of {frames} frames in twelve ways", partial(_animated_png, frames, 4, every_view())
    yield "APNG that promises 4 billion frames", partial(_small_png, chunk(b"acTL", b"\xff" * 4 + bytes(4)))
    yield "EXIF of overlapping tags", partial(_small_png, chunk(b"eXIf", _overlapping_tags(2 * _MIB)))
    for name, profile in icc_profiles.damaged().items():
        yield f"profile: {name}", partial(_small_png, profile_chunk(profile))
    yield "255 lines of 65536", partial(solid_png, 1 << 16, 255, every_view(), colours=6)
    yield "255 columns of 65536", partial(solid_png, 255, 1 << 16, every_view(), colours=6)
    yield "999 lines of 16 thousand", partial(solid_png, 16_000, 999, every_view(), colours=6)
    for depth, colours in ((1, 0), (16, 0), (1, 3), (8, 4), (16, 4), (16, 6), (8, 6)):
        for interlaced in (0, 1):
            palette = chunk(b"PLTE", bytes(6)) + chunk(b"tRNS", b"\0") if colours == 3 else b""
            options = {"depth": depth, "colours": colours, "interlaced": interlaced}
            build = partial(solid_png, SIDE, SIDE, every_view() + palette, **options)
            yield f"largest of depth {depth}, colours {colours}, interlaced {interlaced}", build


def _flooded_png(part: bytes) -> bytes:
    return _small_png(part * (60 * _MIB // len(part)))


def _animated_png(count: int, size: int, before: bytes = b"") -> bytes:
    """A canvas of ``size`` squared; all frames but the first are one pixel, each of another colour."""
    data, number = header(size, size, colours=6) + before + chunk(b"acTL", struct.pack(">II", count, 0)), 0
    for frame in range(count):
        side = 1 if frame else size
        control = struct.pack(">IIIIIHHBB", number, side, side, 0, 0, 1, 10, 2, 0)
        row = b"\0" + struct.pack(">I", (frame + 1) * 65_599) * side
        packed = zlib.compress(row * side, 1)
        sequence = struct.pack(">I", number + 1) if frame else b""
        data += chunk(b"fcTL", control) + chunk(b"fdAT" if frame else b"IDAT", sequence + packed)
        number += 2 if frame else 1
    return data + END


# JPEG


def _overlapping_tags(size: int, count: int = 5000) -> bytes:
    """EXIF whose tags all have the same bytes, each of them nearly all there are."""
    count = min(count, (size - 10) // 12)
    tags = b"".join(struct.pack("<HHII", 1000 + each, 7, size - 16, 8) for each in range(count))
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", count) + tags).ljust(size, b"\0")


def _segment(marker: int, data: bytes = b"") -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


@cache
def _small_jpeg() -> bytes:
    return encoded(Image.new("RGB", (16, 16)), "jpeg")


def _jpeg_with(parts: bytes, times: int = 1) -> bytes:
    return b"\xff\xd8" + parts * times + _small_jpeg()[2:]


def _scanned_jpeg(side: int, scans: int) -> bytes:
    """Progressive; its last scan is there again and again."""
    data = encoded(Image.new("RGB", (side, side), (9, 99, 199)), "jpeg", progressive=True)
    last = data[data.rindex(b"\xff\xc4", 0, data.rindex(b"\xff\xda")) : -2]
    return data[:-2] + last * scans + b"\xff\xd9"


def _jpeg() -> Family:
    for name, parts in {
        "COM": _segment(0xFE),
        "APP0": _segment(0xE0),
        "APP15": _segment(0xEF),
        "DQT": _segment(0xDB),
        "DHT": _segment(0xC4),
        "RST": b"\xff\xd0",
        "fill bytes": b"\xff",
        "junk": b"junk",
    }.items():
        yield f"60 MiB of empty {name}", partial(_jpeg_with, parts, 60 * _MIB // len(parts))
    exif = _segment(0xE1, b"Exif\0\0" + _overlapping_tags(65_000))
    yield "EXIF of overlapping tags", partial(_jpeg_with, exif)
    yield "60 MiB of EXIF", partial(_jpeg_with, exif, 900)
    yield "MPF of overlapping tags", partial(_jpeg_with, _segment(0xE2, b"MPF\0" + _overlapping_tags(65_000)))
    for side, scans in (
        (64, 90),
        (64, 2000),
        (1024, 90),
        (1024, 500),
        (2048, 60),
        (SIDE, 5),
        (SIDE, 20),
        (SIDE, 90),
    ):
        yield f"{scans} more scans of {side}", partial(_scanned_jpeg, side, scans)
    for width, height in ((65_535, 65_535), (65_500, 256), (1, 65_500), (65_500, 1), (0, 16)):
        yield f"claims {width} x {height}", partial(_resized_jpeg, width, height)
    frames = [Image.new("RGB", (16, 16), (each, 0, 0)) for each in range(200)]
    for count in (3, 20, 200):
        yield (
            f"MPO of {count}",
            partial(encoded, frames[0], "mpo", save_all=True, append_images=frames[1:count]),
        )
    for name, profile in icc_profiles.damaged().items():
        pieces = [profile[at : at + 65_000] for at in range(0, len(profile), 65_000)][:255]
        parts = (
            b"ICC_PROFILE\0" + bytes([place + 1, len(pieces)]) + each for place, each in enumerate(pieces)
        )
        yield f"profile: {name}", partial(_jpeg_with, b"".join(_segment(0xE2, part) for part in parts))


def _resized_jpeg(width: int, height: int) -> bytes:
    data = bytearray(_small_jpeg())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


# WebP and AVIF


def _webp() -> Family:
    flat = encoded(
        Image.new("RGBA", (16, 16), (1, 2, 3, 128)), "webp", exif=turned_exif(), icc_profile=srgb()
    )
    for width, height in ((1 << 24, 1 << 24), (16_384, 16_384), (16_384, 1), (1, 1 << 24), (4096, 4096)):
        size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        yield f"claims {width} x {height}", partial(_replaced, flat, 24, size)
    yield "60 MiB of empty chunks", partial(_riff, flat[12:] + b"abcd\0\0\0\0" * (60 * _MIB // 8))
    yield "15 MiB of empty chunks", partial(_riff, flat[12:] + b"abcd\0\0\0\0" * (15 * _MIB // 8))
    yield (
        "15 MiB of EXIF",
        partial(_riff, flat[12:] + b"EXIF" + struct.pack("<I", 15 * _MIB) + bytes(15 * _MIB)),
    )
    for count, side in ((999, 16), (2000, 16), (60, 512), (20, 2048)):
        yield f"{count} frames of {side}", partial(_animation, "webp", count, side)


def _riff(parts: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(parts) + 4) + b"WEBP" + parts


def _replaced(data: bytes, at: int, piece: bytes) -> bytes:
    return data[:at] + piece + data[at + len(piece) :]


def _animation(name: str, count: int, side: int, **options: Any) -> bytes:
    frames = [Image.new("RGBA", (side, side), (each % 251, each % 7, 9, 200)) for each in range(count)]
    return encoded(frames[0], name, save_all=True, append_images=frames[1:], **options)


def _avif() -> Family:
    flat = encoded(Image.new("RGB", (2048, 2048), (9, 99, 199)), "avif", speed=10)
    at = flat.index(b"ispe") + 8
    for width, height in ((64, 64), (1, 1), (16_384, 16_384), (2**31 - 1, 2**31 - 1), (4096, 4096)):
        yield f"claims {width} x {height}", partial(_replaced, flat, at, struct.pack(">II", width, height))
    yield "7 MiB of empty boxes", partial(bytes.__add__, flat, b"\0\0\0\x08free" * (7 * _MIB // 8))
    yield "60 MiB of empty boxes", partial(bytes.__add__, flat, b"\0\0\0\x08free" * (60 * _MIB // 8))
    yield "7 MiB of empty units", partial(_avif_units, flat, b"\x7a\0" * (7 * _MIB // 2))
    for count, side in ((100, 16), (60, 256)):
        yield f"{count} frames of {side}", partial(_animation, "avif", count, side, speed=10)


def _avif_units(flat: bytes, units: bytes) -> bytes:
    """The image lies at the end, behind so many units that mean nothing."""
    at = flat.index(b"mdat") + 4
    payload = units + flat[at:]
    place = flat.index(b"iloc")
    extent = flat.rindex(struct.pack(">I", at), place, flat.index(b"iinf"))
    start = at
    located = _replaced(flat[:at], extent, struct.pack(">II", start, len(payload)))
    return _replaced(located, at - 8, struct.pack(">I", len(payload) + 8)) + payload


# GIF, BMP


def _gif_frame(width: int = 1, height: int = 1, disposal: int = 2) -> bytes:
    control = b"!\xf9\x04" + bytes([disposal << 2 | 1]) + b"\x01\0\0\0"
    return control + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\0"


def _gif_file(side: int, parts: bytes, times: int = 1) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + b"\xff\0\0\0\0\xff"
    return head + parts * times + b";"


def _gif() -> Family:
    for side, frames in (
        (65_535, 1),
        (65_535, 1000),
        (4096, 1000),
        (4096, 1),
        (128, 999),
        (128, 5000),
        (1, 60_000),
    ):
        for disposal in (2, 3):
            name = f"{frames} frames of one pixel on {side}, disposal {disposal}"
            yield name, partial(_gif_file, side, _gif_frame(disposal=disposal), frames)
    yield "a frame that is larger", partial(_gif_file, 4, _gif_frame(65_535, 65_535))
    for name, parts in {
        "comments": b"!\xfe\x01a\0",
        "empty comments": b"!\xfe\0",
        "applications": b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0",
        "nothing": b"\0",
        "controls": b"!\xf9\x04\0\0\0\0\0",
    }.items():
        flood = parts * (60 * _MIB // len(parts))
        yield f"60 MiB of {name}", partial(_gif_file, 4, flood + _gif_frame())
    tiny = _gif_frame()[:-3] + b"\x01\x44" * (30 * _MIB) + b"\0"
    yield "60 MiB of blocks of one byte", partial(_gif_file, 1, tiny)


def _bmp_file(width: int, height: int, bits: int, packing: int, data: bytes) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, packing, len(data), 0, 0, 0, 0)
    start = 54 + (1024 if bits == 8 else 0)
    head = b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start)
    return head + info + bytes(start - 54) + data


def _bmp() -> Family:
    for width, height in ((2**31 - 1, 2**31 - 1), (-1, 5), (65_535, 65_535), (1 << 24, 1), (4096, -4096)):
        yield f"claims {width} x {height}", partial(_bmp_file, width, height, 24, 0, bytes(64))
    for name, data in {
        "runs of one": b"\x01\x07" * (SIDE * SIDE),
        "runs of 255": b"\xff\x07" * (SIDE * SIDE // 255 + 1),
        "ends of lines": b"\0\0" * (20 * _MIB),
        "steps": b"\0\x02\x01\x01" * (10 * _MIB),
        "half a MiB of runs of one": b"\x01\x07" * (_MIB // 4),
        "1 MiB of ends of lines": b"\0\0" * (_MIB // 2 - 2000),
        "1 MiB of steps": b"\0\x02\x01\0" * (_MIB // 4 - 1000),
    }.items():
        yield f"run-length: {name}", partial(_bmp_file, SIDE, SIDE, 8, 1, data)


# TIFF


def _tiff_file(
    tags: list[tuple[int, int, int, int]], data: bytes = b"", pages: int = 1, link: int | None = None
) -> bytes:
    """Tags are (tag, type, count, value); their data starts at 8. Every page has the same."""
    body, start = b"II*\0", 8 + len(data)
    size = 2 + 12 * len(tags) + 4
    entries = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *each) for each in sorted(tags))
    body += struct.pack("<I", start) + data
    links = (start + size * (page + 1) if page < pages - 1 else 0 for page in range(pages))
    return body + b"".join(entries + struct.pack("<I", each if link is None else link) for each in links)


def _tiff_tags(width: int, height: int, rows: int, **more: int) -> list[tuple[int, int, int, int]]:
    strips = -(-height // rows)
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, more.get("packing", 1))]
    tags += [(262, 3, 1, 1), (273, 4, strips, 8), (278, 4, 1, rows), (279, 4, strips, 8)]
    return tags


def _tiff() -> Family:
    yield "a loop of pages", partial(_tiff_file, _tiff_tags(1, 1, 1), bytes(64), 1, 72)
    for pages in (999, 1001, 100_000):
        yield f"{pages} pages", partial(_tiff_file, _tiff_tags(1, 1, 1), bytes(64), pages)
    for width, height in ((2**31, 2**31), (65_535, 65_535), (1 << 24, 1)):
        yield f"claims {width} x {height}", partial(_tiff_file, _tiff_tags(width, height, height), bytes(64))
    for count in (30_000, 65_000):
        extra = [(700 + each % 50_000, 4, 1, 7) for each in range(count)]
        yield f"{count} tags", partial(_tiff_file, _tiff_tags(1, 1, 1) + extra, bytes(64))
        yield f"{count} tags on 20 pages", partial(_tiff_file, _tiff_tags(1, 1, 1) + extra, bytes(64), 20)
    overlapping = [(1000 + each, 7, 20 * _MIB, 8) for each in range(3000)]
    yield "overlapping tags", partial(_tiff_file, _tiff_tags(1, 1, 1) + overlapping, bytes(20 * _MIB))
    for count in (1000, 30_000, 200_000, 5_000_000):
        strips = struct.pack("<I", 8) * count
        yield f"{count} strips of a pixel", partial(_tiff_file, _tiff_tags(1, count, 1), strips)
    for packing in (5, 8, 7, 32_773, 34_925, 50_000, 50_001):
        tags = _tiff_tags(SIDE, SIDE, SIDE, packing=packing)
        yield f"packing {packing} of nothing", partial(_tiff_file, tags, bytes(64))
    jpeg = _scanned_jpeg(1024, 90)
    tags = [each for each in _tiff_tags(1024, 1024, 1024, packing=7) if each[0] not in (262, 258, 279)]
    tags += [(258, 3, 1, 8), (262, 3, 1, 6), (277, 3, 1, 3), (279, 4, 1, len(jpeg))]
    yield "JPEG of 100 scans", partial(_tiff_file, tags, jpeg)
    yield "100 pages with a profile each", _profiled_pages


def _profiled_pages() -> bytes:
    first, *others = [Image.new("CMYK", (2, 2)) for _ in range(100)]
    for place, page in enumerate([first, *others]):
        page.encoderinfo = {"icc_profile": icc_profiles.press(place, 3)}
    return encoded(first, "tiff", save_all=True, append_images=others)


_FAMILIES: list[tuple[str, Callable[[], Family]]] = [
    ("png", _png),
    ("jpeg", _jpeg),
    ("webp", _webp),
    ("avif", _avif),
    ("gif", _gif),
    ("bmp", _bmp),
    ("tiff", _tiff),
]
