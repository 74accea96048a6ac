"""Finding duplicate images: identical files, or images that look alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from safelight.hashing.hash_index import HashIndex
from safelight.safe_training.cleaning.findings import Screened

# Largest distance of near duplicates, of 256 bits; the threshold that ThreatExchange recommends.
_BITS = 31


class Duplicates(StrEnum):
    """Which duplicates are rejected."""

    KEEP = "keep"
    EXACT = "exact"
    NEAR = "near"


@dataclass(frozen=True, slots=True)
class _First:
    """The first sample of an image."""

    id: str
    key: str

    def shares_key(self, other: _First) -> bool:
        return bool(self.key) and self.key == other.key


def first_of(samples: Iterable[tuple[int, Screened]], kind: Duplicates) -> Mapping[int, str]:
    """Return, for the number of each duplicate, the id of the first sample of that image.

    Samples that share a key are no duplicates: an image may have several captions. Near duplicates are within
    31 bits of PDQ of a first one. This takes some hundred bytes of memory per sample.
    """
    found: dict[int, str] = {}
    files: dict[str, _First] = {}
    numbers: list[int] = []
    firsts: list[_First] = []
    hashes = bytearray()
    for number, each in samples if kind is not Duplicates.KEEP else ():
        me = _First(each.id, each.key)
        first = files.setdefault(each.sha256 or each.id, me)
        if first is not me and not first.shares_key(me):
            found[number] = first.id
        elif kind is Duplicates.NEAR and each.pdq:
            numbers.append(number)
            firsts.append(me)
            hashes += bytes.fromhex(each.pdq)
    if firsts:
        alike = _alike(np.frombuffer(bytes(hashes), np.uint8).reshape(-1, 32), firsts)
        found |= {numbers[row]: firsts[first].id for row, first in alike.items()}
    return found


def _alike(hashes: np.ndarray, samples: list[_First]) -> Mapping[int, int]:
    """Return, for each row that is near an earlier row that is no duplicate itself, the first such row."""
    index, found = HashIndex(hashes), dict[int, int]()
    for row, me in enumerate(samples):
        near = index.near(hashes[row : row + 1], _BITS)
        for earlier in near[near < row].tolist():
            if earlier not in found and not samples[earlier].shares_key(me):
                found[row] = earlier
                break
    return found
