"""Numbers read from bytes one after the other; past the end there is an error."""

from __future__ import annotations


class Bytes:
    """Whole bytes of ``data`` from ``at`` on. Raises ``ValueError`` past the end."""

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
        """A big-endian number of ``size`` bytes."""
        return int.from_bytes(self.take(size))


class Bits:
    """Bits of ``data``, the highest of each byte first. Raises ``ValueError`` past the end."""

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data)
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """A number of ``count`` bits."""
        if count > self._left:
            raise ValueError("it ends early")
        self._left -= count
        return self._number >> self._left & ((1 << count) - 1)

    def zeros(self) -> int:
        """How many zeros come before the next one, which is read too (leading zeros of uvlc())."""
        count = 0
        while not self.take(1):
            count += 1
        return count
