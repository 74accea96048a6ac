"""Samples of training data, which are images with captions, and shards of samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from safelight.training.encoded import Example

# Number of samples screened together.
BATCH = 32


@dataclass(frozen=True, slots=True)
class Sample:
    """An encoded image and its caption.

    ``id`` is unique in the data set; ``key`` is the sample's name in the data. If the sample cannot be read,
    ``problem`` is the reason as a sentence, and there is no image.
    """

    id: str
    key: str
    image: bytes | None
    caption: str | None = None
    problem: str | None = None


class Shard(Protocol):
    """A part of a data set that is always read from start to end in the same order."""

    @property
    def name(self) -> str: ...

    def samples(self) -> Iterator[Sample]:
        """Yield all samples; one that cannot be read has a problem, and nothing is raised."""
        ...


def examples(samples: Iterable[Sample]) -> Iterator[Example]:
    """Yield the samples that have an image and a caption as training examples."""
    return (Example(each.image, each.caption) for each in samples if each.image and each.caption)
