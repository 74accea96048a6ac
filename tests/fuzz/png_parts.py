"""PNG files put together from chunks."""

from __future__ import annotations

import struct
import zlib

from fuzz.image_seeds import srgb, turned_exif


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width: int, height: int, depth: int = 8, colours: int = 2, interlaced: int = 0) -> bytes:
    values = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", values)


END = chunk(b"IEND")


def solid_png(
    width: int, height: int, before: bytes = b"", depth: int = 8, colours: int = 2, **more: int
) -> bytes:
    """Zeros, packed by the row, so that making it needs no memory."""
    bits = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours] * depth
    packer, data = zlib.compressobj(1), b""
    for left, top, across, down in _PASSES if more.get("interlaced") else ((0, 0, 1, 1),):
        row = bytes(1 + (-(-(width - left) // across) * bits + 7) // 8)
        data += b"".join(packer.compress(row) for _ in range(top, height, down))
    head = header(width, height, depth, colours, **more)
    return head + before + chunk(b"IDAT", data + packer.flush()) + END


# Of Adam7: where each starts, and how far its pixels are apart.
_PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)


def profile_chunk(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"a\0\0" + zlib.compress(profile))


def every_view() -> bytes:
    """Chunks that make as many views as a PNG can have: a profile, a gamma, and a turn."""
    gamma = chunk(b"gAMA", (100_000).to_bytes(4, "big"))
    return profile_chunk(srgb()) + gamma + chunk(b"eXIf", turned_exif()[6:])
