"""Sequential readers of numbers from bytes."""

from __future__ import annotations


class ByteReader:
    """Reads whole bytes of ``data`` from the offset ``at`` on. Raises ``ValueError`` at the end."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self.at = at

    def take(self, size: int) -> bytes:
        piece = self._data[self.at : self.at + size]
        if len(piece) < size:
            raise ValueError("it ends early")
        self.at += size
        return piece

    def number(self, size: int) -> int:
        """Read a big-endian number of ``size`` bytes."""
        return int.from_bytes(self.take(size))


class BitReader:
    """Reads bits of ``data``, most significant first. Raises ``ValueError`` at the end."""

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data)
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """Read a number of ``count`` bits."""
        if count > self._left:
            raise ValueError("it ends early")
        self._left -= count
        return self._number >> self._left & ((1 << count) - 1)

    def zeros(self) -> int:
        """Read zeros up to and including the next one, and return their number (leading zeros of uvlc())."""
        count = 0
        while not self.take(1):
            count += 1
        return count
