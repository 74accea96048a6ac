"""Checks the structure of image files before Pillow reads them, against denial of service.

Pillow parses the parts of a file one by one in Python, and its decoders cannot be interrupted. A file within
the limits of bytes and pixels that has millions of empty parts, or hundreds of scans over the same pixels,
would occupy the process for minutes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from itertools import islice

from safelight.errors import ImageError
from safelight.images.av1 import coded_pixels
from safelight.images.limits import ImageLimits

Check = Callable[[bytes, ImageLimits], None]

# Divisors of the byte limit for formats whose decoders need much time or memory per byte.
_SHARES = {"WEBP": 8, "AVIF": 8}
# BMP with run-length encoding is decoded in Python.
_RLE, _RLE_SHARE = (1, 2), 64
# JPEG: photographs have about 20 segments, and up to 255 more for a colour profile. Few of them are EXIF or
# Photoshop segments (APP1 and APP13), which Pillow parses.
_MAX_SEGMENTS, _MAX_JUNK_BYTES = 2048, 1 << 12
_PARSED_SEGMENTS, _MAX_PARSED_SEGMENTS = ((0xE1, b"Exif"), (0xED, b"Photoshop")), 16
_MARKER, _AFTER_SCAN = re.compile(rb"\xff[^\xff\0]"), re.compile(rb"\xff[^\xff\0\xd0-\xd7]")
_IMAGE, _MAX_IMAGES = re.compile(rb"\xff\xd8\xff"), 16
_EOI, _SOS, _WITHOUT_LENGTH = 0xD9, 0xDA, {0x01, *range(0xD0, 0xD9)}
_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# Progressive JPEG has about 10 scans, each over all pixels.
_MAX_SCANS, _SCANS_OF_LARGEST = 100, 16
# PNG: 64 MiB in chunks of 2 KiB; most programs write 8 KiB or more. A text chunk may decompress to 1 MiB.
_MAX_CHUNKS, _MAX_TEXTS, _TEXT = 1 << 15, 16, (b"zTXt", b"iTXt")
# GIF: 64 MiB in blocks of 64 bytes; nearly all blocks have 255.
_BLOCKS = 1 << 20
# TIFF: the tags of all pages together, and the strips or tiles of all pages, which Pillow decodes one by one.
_TAGS, _PIECES = 1 << 15, 1 << 15
_OFFSETS, _COMPRESSION, _JPEG_IN_TIFF = (273, 324), 259, (6, 7)
_PROGRESSIVE = re.compile(rb"\xff[\xc2\xc6\xca\xce]\x00[\x0b\x0e\x11\x14]")
# AVIF: colours and alpha are coded separately, and some coded frames are not shown.
_CODED = 3


def check_container(encoded: bytes, limits: ImageLimits) -> None:
    """Raise ``ImageError`` if the file has implausibly many parts, or more than ``limits`` allow."""
    kind = _kind(encoded)
    limit = limits.encoded_bytes // _SHARES.get(kind, 1)
    if len(encoded) > limit:
        raise ImageError(f"it is larger than {limit:,} bytes, the limit for {kind}.")
    if kind in _CHECKS:
        _CHECKS[kind](encoded, limits)


def _kind(encoded: bytes) -> str:
    if encoded.startswith(b"RIFF") and encoded[8:12] == b"WEBP":
        return "WEBP"
    if encoded[4:8] == b"ftyp":
        return "AVIF"
    return next((kind for start, kind in _STARTS.items() if encoded.startswith(start)), "")


def _check_counts(*counts: tuple[int, int, str]) -> None:
    """Raise ``ImageError`` for the first count above its limit; each is (count, limit, name)."""
    for count, limit, what in counts:
        if count > limit:
            raise _too_many(what)


def _too_many(what: str) -> ImageError:
    return ImageError(f"it has too many {what}; save it again with another program.")


def _check_jpeg(encoded: bytes, limits: ImageLimits) -> None:
    """Check segments, bytes between them, and scans, of all images in the file."""
    starts = [0]
    if b"MPF\0" in encoded:  # several images at arbitrary offsets
        starts = [found.start() for found in islice(_IMAGE.finditer(encoded), _MAX_IMAGES + 1)]
    if len(starts) > _MAX_IMAGES:
        raise _too_many("images")
    scanned = read = 0
    for start in starts:
        pixels, end = _scanned(encoded, start)
        scanned, read = scanned + pixels, read + end - start
        if read > 2 * len(encoded):  # the images overlap
            raise _too_many("images")
    if scanned > _SCANS_OF_LARGEST * limits.pixels:
        raise _too_many("scans")


def _scanned(encoded: bytes, start: int) -> tuple[int, int]:
    """Return the pixels of one image times the number of its scans, and the offset of its end."""
    scans = pixels = junk = apart = at = 0
    for at, marker, before in _segments(encoded, start + 2):
        junk += 0 if scans else before
        if marker in _SIZES:
            pixels = max(pixels, _jpeg_pixels(encoded, at))
        scans += marker == _SOS
        apart += any(marker == kind and encoded.startswith(name, at + 2) for kind, name in _PARSED_SEGMENTS)
        _check_counts(
            (scans, _MAX_SCANS, "scans"),
            (junk, _MAX_JUNK_BYTES, "bytes between its segments"),
            (apart, _MAX_PARSED_SEGMENTS, "segments of EXIF"),
        )
    return scans * pixels, at


def _segments(encoded: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Yield, for each segment, the offset after its marker, the marker, and the number of skipped bytes."""
    marker = 0
    for _ in range(_MAX_SEGMENTS):
        found = (_AFTER_SCAN if marker == _SOS else _MARKER).search(encoded, at)
        if found is None:
            yield len(encoded), _EOI, 0
            return
        marker = found.group()[1]
        yield found.end(), marker, found.start() - at
        if marker == _EOI:
            return
        at = found.end()
        if marker not in _WITHOUT_LENGTH:
            at += int.from_bytes(encoded[at : at + 2])
    raise _too_many("segments")


def _jpeg_pixels(encoded: bytes, at: int) -> int:
    return int.from_bytes(encoded[at + 3 : at + 5]) * int.from_bytes(encoded[at + 5 : at + 7])


def _check_png(encoded: bytes, limits: ImageLimits) -> None:
    at, texts = 8, 0
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(encoded):
            return
        texts += encoded[at + 4 : at + 8] in _TEXT
        if texts > _MAX_TEXTS:
            raise _too_many("texts")
        at += 12 + int.from_bytes(encoded[at : at + 4])
    raise _too_many("chunks")


def _check_gif(encoded: bytes, limits: ImageLimits) -> None:
    """Check the number of blocks of at most 255 bytes, which Pillow reads one by one."""
    blocks = 0
    at = 13 + _palette_bytes(encoded[10:11])
    while at < len(encoded):
        if (separator := encoded[at : at + 1]) == b";":
            return
        at += {b"!": 2, b",": 11 + _palette_bytes(encoded[at + 9 : at + 10])}.get(separator, 1)
        if separator in (b"!", b","):
            while at < len(encoded) and (size := encoded[at]):
                at += size + 1
                blocks += 1
                if blocks > _BLOCKS:
                    raise _too_many("blocks")
            at += 1
        blocks += 1
        if blocks > _BLOCKS:
            raise _too_many("blocks")


def _palette_bytes(flags: bytes) -> int:
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 128 else 0


def _check_bmp(encoded: bytes, limits: ImageLimits) -> None:
    limit = limits.encoded_bytes // _RLE_SHARE
    if int.from_bytes(encoded[30:34], "little") in _RLE and len(encoded) > limit:
        raise ImageError(f"it is larger than {limit:,} bytes, the limit for BMP with run-length encoding.")


def _check_tiff(encoded: bytes, limits: ImageLimits) -> None:
    """Check the numbers of tags, and of strips or tiles, of all pages."""
    pieces, jpeg = 0, False
    for tags, (tag, count, value) in enumerate(_tiff_tags(encoded, limits.frames)):
        pieces += count if tag in _OFFSETS else 0
        if tags == _TAGS or pieces > _PIECES:
            raise _too_many("tags" if tags == _TAGS else "strips or tiles")
        jpeg |= tag == _COMPRESSION and value in _JPEG_IN_TIFF
    if jpeg and _PROGRESSIVE.search(encoded):
        raise ImageError("it has progressive JPEG in TIFF, which is not supported; save it again.")


def _tiff_tags(encoded: bytes, pages: int) -> Iterator[tuple[int, int, int]]:
    """Yield tag, count and value of every entry of the first ``pages`` + 1 pages."""
    order = "<" if encoded.startswith(b"II") else ">"
    big = 43 in encoded[2:4]
    number, few, entry, size = ("Q", "Q", "HHQH", 20) if big else ("I", "H", "HHIH", 12)
    number, few, entry = order + number, order + few, order + entry
    seen = set[int]()
    try:
        (at,) = struct.unpack_from(number, encoded, 8 if big else 4)
        while at and at not in seen and len(seen) <= pages:
            seen.add(at)
            (count,) = struct.unpack_from(few, encoded, at)
            first = at + struct.calcsize(few)
            for place in range(count):
                tag, _, values, value = struct.unpack_from(entry, encoded, first + place * size)
                yield tag, values, value
            (at,) = struct.unpack_from(number, encoded, first + count * size)
    except (struct.error, OverflowError):
        return  # the file is truncated, for which Pillow raises an error


def _check_avif(encoded: bytes, limits: ImageLimits) -> None:
    try:
        coded = coded_pixels(encoded)
    except ValueError as error:
        raise ImageError(f"it cannot be read as an image ({error}).") from None
    if coded.largest > limits.pixels or coded.together > _CODED * limits.pixels_of_all:
        raise ImageError(f"its frames have more than {limits.pixels_of_all:,} pixels together.")


_STARTS = {
    b"\xff\xd8": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II": "TIFF",
    b"MM": "TIFF",
}
_CHECKS: dict[str, Check] = {
    "JPEG": _check_jpeg,
    "PNG": _check_png,
    "GIF": _check_gif,
    "BMP": _check_bmp,
    "TIFF": _check_tiff,
    "AVIF": _check_avif,
}
