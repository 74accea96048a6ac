"""What training data is made of: images with captions, in shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from safelight.training.encoded import Example

# How many are looked at together.
BATCH = 32


@dataclass(frozen=True, slots=True)
class Sample:
    """An image as it is encoded, and its caption.

    ``id`` is its own in the whole data set, ``key`` what the data calls it. ``problem`` is why it cannot be
    read, for people; then it has no image.
    """

    id: str
    key: str
    image: bytes | None
    caption: str | None = None
    problem: str | None = None


class Shard(Protocol):
    """A part of a data set that is read from its beginning to its end, always in the same order."""

    @property
    def name(self) -> str: ...

    def samples(self) -> Iterator[Sample]:
        """What cannot be read comes as a sample with a problem; nothing is left out and nothing raised."""
        ...


def examples(samples: Iterable[Sample]) -> Iterator[Example]:
    """Of those with an image and a caption, what is trained on."""
    return (Example(each.image, each.caption) for each in samples if each.image and each.caption)
