"""Images that are easily misread."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def images() -> list[Image.Image]:
    """Noise of several colours and sizes, also three pixels high or wide as if those were channels."""
    random = np.random.default_rng(0)
    kinds = [((40, 50), 255, 9, 9), ((64, 64), 9, 255, 9), ((3, 90), 9, 9, 255), ((33, 3), 255, 255, 255)]
    return [
        Image.fromarray(random.integers(0, (red + 1, green + 1, blue + 1), (*size, 3)).astype(np.uint8))
        for size, red, green, blue in kinds
    ]
