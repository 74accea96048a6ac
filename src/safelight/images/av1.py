"""Counts the pixels that an AVIF file makes its decoder process, regardless of its declared size.

AVIF is AV1 in a box format. The boxes declare the size of the image, but the cost of decoding depends on the
size in the AV1 stream: a file of 1 KiB that declares 64 × 64 pixels can contain frames of 16384 × 16384.
Boxes: ISO/IEC 14496-12 and 23008-12. AV1: https://aomediacodec.github.io/av1-spec/ (5.3.2 and 5.5.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from safelight.images.bits import BitReader, ByteReader

_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6
# Limits that no real image reaches: items, samples and units together; boxes in a box; and boxes of one kind
# in a box.
_MAX_PARTS, _MAX_BOXES, _MAX_SAME_KIND = 1 << 14, 1 << 10, 16

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class CodedPixels:
    """The number of pixels of the largest frame, and of all frames together."""

    largest: int
    together: int


def coded_pixels(encoded: bytes) -> CodedPixels:
    """Count the pixels that decoding the AV1 streams in ``encoded`` processes.

    Raises ``ValueError`` for a file whose boxes do not locate its AV1 data.
    """
    largest = together = units = 0
    for payload in _payloads(encoded):
        for kind, unit in _units(payload):
            units += 1
            if kind == _SEQUENCE_HEADER:
                largest = max(largest, _frame_pixels(unit))
            elif kind in (_FRAME_HEADER, _FRAME):
                together += largest
            if units > _MAX_PARTS:
                raise ValueError("it has too many units")
    return CodedPixels(largest, together)


def _payloads(encoded: bytes) -> Iterator[bytes]:
    """Yield the AV1 data of every image item and of every sample of a track."""
    read = 0
    for number, (start, size) in enumerate(_payload_ranges(encoded)):
        read += size
        if number == _MAX_PARTS or read > 2 * len(encoded):
            raise ValueError("it has too many parts")
        yield encoded[start : start + size]


def _payload_ranges(encoded: bytes) -> Iterator[Place]:
    for kind, start, end in _boxes(encoded, 0, len(encoded)):
        if kind == b"meta":
            yield from _items(encoded, start + 4, end)
        elif kind == b"moov":
            for table in _nested_boxes(encoded, start, end, (b"trak", b"mdia", b"minf", b"stbl")):
                yield from _samples(encoded, *table)


def _boxes(encoded: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the contents of each box between ``start`` and ``end``."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        reader = ByteReader(encoded, start)
        size, kind = reader.number(4), reader.take(4)
        size = reader.number(8) if size == 1 else size or end - start
        if size < reader.at - start:
            raise ValueError("a box is smaller than its header")
        yield kind, reader.at, min(start + size, end)
        start += size
    raise ValueError("it has too many boxes")


def _nested_boxes(encoded: bytes, start: int, end: int, path: tuple[bytes, ...]) -> Iterator[Place]:
    if not path:
        yield start, end
        return
    same_kind = [(first, last) for kind, first, last in _boxes(encoded, start, end) if kind == path[0]]
    if len(same_kind) > _MAX_SAME_KIND:
        raise ValueError("it has too many tracks")
    for first, last in same_kind:
        yield from _nested_boxes(encoded, first, last, path[1:])


def _items(encoded: bytes, start: int, end: int) -> Iterator[Place]:
    """Yield offset and size of the AV1 items."""
    boxes = {kind: (first, last) for kind, first, last in _boxes(encoded, start, end)}
    coded = set(_coded_items(encoded, *boxes[b"iinf"])) if b"iinf" in boxes else set[int]()
    data = boxes.get(b"idat", (0, 0))[0]
    for item, inside, at, size in (
        _locations(ByteReader(encoded, boxes[b"iloc"][0])) if b"iloc" in boxes else ()
    ):
        if item in coded:
            first = at + (data if inside else 0)
            yield first, size or len(encoded) - first


def _coded_items(encoded: bytes, start: int, end: int) -> Iterator[int]:
    head = 4 + (2 if encoded[start] == 0 else 4)
    for _, first, _ in _boxes(encoded, start + head, end):
        reader = ByteReader(encoded, first)
        version = reader.number(4) >> 24
        item = reader.number(2 if version < 3 else 4)
        reader.take(2)
        if reader.take(4) == b"av01":
            yield item


def _locations(reader: ByteReader) -> Iterator[tuple[int, bool, int, int]]:
    """Yield, for each extent, its item, whether it is in the box "idat", its offset and its size."""
    version, sizes = reader.number(4) >> 24, reader.number(2)
    offset, length, base, index = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15, sizes & 15 if version else 0
    wide = 4 if version == 2 else 2
    for _ in range(_at_most(reader.number(wide))):
        item = reader.number(wide)
        inside = bool(version and reader.number(2) & 15)
        reader.take(2)
        origin = reader.number(base)
        for _ in range(_at_most(reader.number(2), _MAX_SAME_KIND)):
            reader.take(index)
            yield item, inside, origin + reader.number(offset), reader.number(length)


def _at_most(count: int, limit: int = _MAX_PARTS) -> int:
    if count > limit:
        raise ValueError("it has too many parts")
    return count


def _samples(encoded: bytes, start: int, end: int) -> Iterator[Place]:
    """Yield offset and size of the samples of a track, if it is AV1."""
    boxes = {kind: (first, last) for kind, first, last in _boxes(encoded, start, end)}
    if b"stsd" not in boxes or b"av01" not in encoded[slice(*boxes[b"stsd"])]:
        return
    if not {b"stsz", b"stsc"} <= boxes.keys() or not {b"stco", b"co64"} & boxes.keys():
        raise ValueError("a track does not locate its samples")
    sizes, runs = ByteReader(encoded, boxes[b"stsz"][0] + 4), ByteReader(encoded, boxes[b"stsc"][0] + 4)
    same, left = sizes.number(4), _at_most(sizes.number(4))
    starts = [(runs.number(4), runs.number(4), runs.take(4)) for _ in range(_at_most(runs.number(4)))]
    wide = 8 if b"co64" in boxes else 4
    chunks, run = ByteReader(encoded, boxes[b"co64" if wide == 8 else b"stco"][0] + 4), 0
    for chunk in range(1, _at_most(chunks.number(4)) + 1):
        at = chunks.number(wide)
        while run + 1 < len(starts) and starts[run + 1][0] <= chunk:
            run += 1
        for _ in range(min(starts[run][1] if starts else 0, left)):
            size = same or sizes.number(4)
            yield at, size
            at, left = at + size, left - 1


def _units(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and contents of the open bitstream units (OBU)."""
    at = 0
    while at < len(payload):
        header = payload[at]
        at += 2 if header & 4 else 1
        size = len(payload) - at
        if header & 2:
            size = 0
            for place in range(8):
                byte = payload[at] if at < len(payload) else 0
                at, size = at + 1, size | (byte & 127) << (7 * place)
                if byte < 128:
                    break
        yield header >> 3 & 15, payload[at : min(at + size, at + 64)]
        at += size


def _frame_pixels(header: bytes) -> int:
    """Return the number of pixels of the largest frame that a sequence header allows."""
    bits = BitReader(header)
    bits.take(4)
    if bits.take(1):
        bits.take(5)
    else:
        _skip_operating_points(bits)
    across, down = bits.take(4) + 1, bits.take(4) + 1
    return (bits.take(across) + 1) * (bits.take(down) + 1)


def _skip_operating_points(bits: BitReader) -> None:
    delay = 0
    if bits.take(1):  # timing_info
        bits.take(64)
        if bits.take(1):
            bits.take(bits.zeros())
        if bits.take(1):  # decoder_model_info
            delay = bits.take(5) + 1
            bits.take(42)
    waits = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if delay and bits.take(1):
            bits.take(2 * delay + 1)
        if waits and bits.take(1):
            bits.take(4)
