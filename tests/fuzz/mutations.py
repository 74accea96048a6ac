"""Small changes to bytes, as damage and as attackers make them; for every subject of fuzzing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random

# Numbers at which arithmetic in parsers goes wrong.
_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

Change = Callable[[bytearray, Random, Sequence[bytes]], None]


def _flip_bits(data: bytearray, random: Random, others: Sequence[bytes]) -> None:
    for _ in range(random.randint(1, 8)):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _overwrite(data: bytearray, random: Random, others: Sequence[bytes]) -> None:
    at = random.randrange(len(data))
    piece = random.randbytes(random.randint(1, 16))
    data[at : at + len(piece)] = piece


def _write_number(data: bytearray, random: Random, others: Sequence[bytes]) -> None:
    size = random.choice((1, 2, 4))
    number = random.choice(_EDGES) & ((1 << 8 * size) - 1)
    at = random.randrange(len(data))
    data[at : at + size] = number.to_bytes(size, random.choice(("little", "big")))


def _write_number_in_header(data: bytearray, random: Random, others: Sequence[bytes]) -> None:
    """Sizes, counts and offsets lie near the start."""
    head = data[:128]
    _write_number(head, random, others)
    data[: min(128, len(data))] = head


def _insert(data: bytearray, random: Random, others: Sequence[bytes]) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.randbytes(random.randint(1, 16))


def _remove(data: bytearray, random: Random, others: Sequence[bytes]) -> None:
    at = random.randrange(len(data))
    del data[at : at + random.randint(1, 32)]


def _cut(data: bytearray, random: Random, others: Sequence[bytes]) -> None:
    del data[random.randrange(len(data)) :]


def _repeat(data: bytearray, random: Random, others: Sequence[bytes]) -> None:
    at = random.randrange(len(data))
    piece = bytes(data[at : at + random.randint(1, 64)])
    data[at:at] = piece * random.randint(1, 200)


def _splice(data: bytearray, random: Random, others: Sequence[bytes]) -> None:
    """The start of this file and the end of another one."""
    other = random.choice(others)
    data[random.randrange(len(data)) :] = other[random.randrange(len(other)) :]


_CHANGES: tuple[Change, ...] = (
    _flip_bits,
    _overwrite,
    _write_number,
    _write_number_in_header,
    _insert,
    _remove,
    _cut,
    _repeat,
    _splice,
)


def mutated(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """``data`` with one to five changes; ``others`` are files whose parts may be put into it."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 5)):
        if changed:
            random.choice(_CHANGES)(changed, random, others or [data])
    return bytes(changed)


def mutations(seeds: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """``count`` changed ``seeds``, each in turn; the same ones for the same ``seed``."""
    random = Random(seed)
    for number in range(count):
        yield mutated(seeds[number % len(seeds)], random, seeds)
