"""PDQ: a perceptual hash of images that is robust to scaling and compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from safelight.errors import MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image

# PDQ filters and samples an image in 64 × 64 cells. If the cells and their filters have an odd number of
# pixels (5 and 3 here, instead of 8 and 4 at 512), the samples lie in the centres of the cells, so that the
# hashes of rotated and mirrored images are exact instead of up to 50 bits off.
_SIDE = 320
# ThreatExchange ignores hashes of lower quality.
MIN_QUALITY = 50


@dataclass(frozen=True, slots=True)
class Pdq:
    """The PDQ hashes of an image and their quality.

    ``orientations`` (uint8, [8, 32]) has the hash of the image, then those of the image rotated and mirrored.
    ``quality`` in [0, 100] measures how much detail the image has.
    """

    orientations: NDArray[np.uint8]
    quality: int

    @property
    def hex(self) -> str:
        """The hash of the unrotated image as 64 hexadecimal digits, ThreatExchange's format."""
        return bytes(self.orientations[0]).hex()


class PdqHasher:
    """Computes the PDQ hashes of images of any size and mode.

    Raises ``MissingExtraError`` if pdqhash is not installed.
    https://github.com/facebook/ThreatExchange/tree/main/pdq
    """

    def __init__(self) -> None:
        try:
            import pdqhash
        except ImportError as error:
            raise MissingExtraError("hashing images", "hashes") from error
        self._compute = pdqhash.compute_dihedral

    def __call__(self, image: Image) -> Pdq:
        from PIL.Image import Resampling

        pixels = np.asarray(image.convert("RGB").resize((_SIDE, _SIDE), Resampling.BILINEAR))
        bits, quality = self._compute(pixels)
        return Pdq(np.packbits(np.stack(bits).astype(np.uint8), axis=1), int(quality))
