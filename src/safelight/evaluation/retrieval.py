"""Retrieval between images and texts by their embeddings."""

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
    """Return the retrieval accuracy from image to text and from text to image, among ``among`` candidates.

    ``embedded`` and ``images`` are the embeddings of ``texts`` and of their images, (N, d). Images with equal
    texts count as correct for each other.
    """
    text_found, image_found = [], []
    for start in range(0, len(texts) - among + 1, among):
        part = slice(start, start + among)
        cosines, candidates = images[part] @ embedded[part].T, np.array(texts[part])
        text_found += (candidates[cosines.argmax(1)] == candidates).tolist()
        image_found += (candidates[cosines.argmax(0)] == candidates).tolist()
    return [Row(f"image to {kind}", Rate.of(text_found)), Row(f"{kind} to image", Rate.of(image_found))]
