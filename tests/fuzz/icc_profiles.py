"""Colour profiles that are slow to apply, damaged, or larger than any should be."""

from __future__ import annotations

import struct

import numpy as np

from fuzz.image_seeds import srgb


def profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of an output device for colours in ``space``, with these tags."""
    head = bytearray(128)
    head[8:40] = bytes.fromhex("02400000") + b"prtr" + space + b"Lab " + bytes(12) + b"acsp"
    head[68:80] = struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
    table, body, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        padded = data + bytes(-len(data) % 4)
        table += name + struct.pack(">II", at + len(body), len(padded))
        body += padded
    head[0:4] = struct.pack(">I", at + len(body))
    return bytes(head) + table + body


def lookup(channels: int, points: int, entries: int = 256, seed: int = 0) -> bytes:
    """A random lookup table (lut16Type) from ``channels`` to Lab, which no shortcut replaces."""
    random = np.random.default_rng(seed)
    head = b"mft2" + bytes(4) + bytes([channels, 3, points, 0])
    head += struct.pack(">9I", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536) + struct.pack(">HH", entries, entries)
    ramp = np.linspace(0, 65535, entries).astype(">u2").tobytes()
    grid = random.integers(0, 65536, points**channels * 3).astype(">u2").tobytes()
    return head + ramp * channels + grid + ramp * 3


def press(seed: int = 0, points: int = 9) -> bytes:
    """As printers' profiles are: four inks by a table."""
    return profile(b"CMYK", {b"A2B0": lookup(4, points, seed=seed), **_NAMES})


def table(seed: int = 0, points: int = 17) -> bytes:
    """Red, green and blue by a table."""
    return profile(b"RGB ", {b"A2B0": lookup(3, points, seed=seed), **_NAMES})


def matrix() -> bytes:
    """Red, green and blue by curves and a matrix, as those of cameras and displays are; red and blue are
    exchanged, so that it shows."""
    return srgb().replace(b"rXYZ", b"tXYZ").replace(b"bXYZ", b"rXYZ").replace(b"tXYZ", b"bXYZ")


def chain(elements: int) -> bytes:
    """Matrices one after the other (multiProcessElementsType), each of them nearly nothing."""
    matrix = b"matf" + bytes(4) + struct.pack(">HH12f", 3, 3, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1e-4)
    first = 16 + 8 * elements
    places = b"".join(struct.pack(">II", first + 60 * each, 60) for each in range(elements))
    head = b"mpet" + bytes(4) + struct.pack(">HHI", 3, 3, elements)
    data = head + places + matrix * elements
    return profile(b"RGB ", {b"D2B0": data, b"A2B0": lookup(3, 5), **_NAMES}).replace(
        b"\x02\x40\0\0", b"\x04\x40\0\0", 1
    )


def damaged() -> dict[str, bytes]:
    sound = srgb()
    many = sound[:128] + struct.pack(">I", 0xFFFF) + sound[132:]
    return {
        "empty": b"",
        "one byte": b"\0",
        "text": b"no profile",
        "cut": sound[:200],
        "zeros": bytes(4096),
        "claims to be large": b"\xff\xff\xff\xff" + sound[4:],
        "claims 65535 tags": many,
        "tags past the end": sound[:132] + b"\xff" * (len(sound) - 132),
        "another space": sound.replace(b"RGB ", b"CMYK", 1),
        "padded to 3 MiB": sound + bytes(3 << 20),
        "padded to 40 MiB": sound + bytes(40 << 20),
        "large table": table(points=45),
        "long curves": profile(b"RGB ", {b"A2B0": lookup(3, 9, 4096), **_NAMES}),
        "3000 elements": chain(3000),
        "30000 elements": chain(30_000),
    }


_NAMES = {
    b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"a\0" + bytes(79),
    b"wtpt": b"XYZ " + bytes(4) + struct.pack(">III", 0xF6D6, 0x10000, 0xD32D),
    b"cprt": b"text" + bytes(4) + b"none\0",
}
