"""How often the nearest of many is the right one, for images and texts in one space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.evaluation.rates import Rate
from safelight.evaluation.tables import Row

AMONG = 100


def retrieval_rows(
    kind: str, texts: Sequence[str], embedded: NDArray[Any], images: NDArray[Any], among: int = AMONG
) -> list[Row]:
    """Return how often an image's nearest text is its own, and the other way round, among so many at a time.

    ``embedded`` and ``images`` are the embeddings of ``texts`` and of their images (N, d). A text that
    another image has as well is right too.
    """
    found, asked = [], []
    for start in range(0, len(texts) - among + 1, among):
        part = slice(start, start + among)
        cosines, said = images[part] @ embedded[part].T, np.array(texts[part])
        found += (said[cosines.argmax(1)] == said).tolist()
        asked += (said[cosines.argmax(0)] == said).tolist()
    return [Row(f"image to {kind}", Rate.of(found)), Row(f"{kind} to image", Rate.of(asked))]
