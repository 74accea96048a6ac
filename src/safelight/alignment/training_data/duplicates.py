"""Images that are there already: the same file, or one that looks the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from safelight.alignment.training_data.findings import Screened
from safelight.hashing.hash_index import HashIndex

# Of 256; ThreatExchange's.
_BITS = 31


class Duplicates(StrEnum):
    """Which of them go."""

    KEEP = "keep"
    EXACT = "exact"
    NEAR = "near"


@dataclass(frozen=True, slots=True)
class _First:
    """A sample whose image was not there before."""

    id: str
    key: str

    def shares_key(self, other: _First) -> bool:
        return bool(self.key) and self.key == other.key


def first_of(samples: Iterable[tuple[int, Screened]], kind: Duplicates) -> Mapping[int, str]:
    """By the number of each sample that is one more of an image, the id of the first of it.

    A sample that has the key of that one is none: images may have several captions. Near ones are within 31
    bits of PDQ of a first one. Takes some hundred bytes of memory for each sample.
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
    """For each row that looks like an earlier one, which looks like none itself, the first of those."""
    index, found = HashIndex(hashes), dict[int, int]()
    for row, me in enumerate(samples):
        near = index.near(hashes[row : row + 1], _BITS)
        for earlier in near[near < row].tolist():
            if earlier not in found and not samples[earlier].shares_key(me):
                found[row] = earlier
                break
    return found
