"""PDQ: a hash of what an image looks like, near to itself after scaling and compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from safelight.errors import MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image

# PDQ filters and samples an image in 64 × 64 cells. With an odd number of pixels to a cell and to its
# filter (5 and 3 here, as against 8 and 4 at 512) the samples lie in the middle, so that the hashes of turned
# and mirrored images are what PDQ says they are, and not up to 50 bits off.
_SIDE = 320
# From here on ThreatExchange trusts a hash.
LEAST_QUALITY = 50


@dataclass(frozen=True, slots=True)
class Pdq:
    """``orientations`` (uint8, [8, 32]): the hash of the image, then of it turned and mirrored.

    ``quality`` in [0, 100] says how much there is to see.
    """

    orientations: NDArray[np.uint8]
    quality: int

    @property
    def hex(self) -> str:
        """The hash of the image as it is, in the 64 digits that ThreatExchange writes."""
        return bytes(self.orientations[0]).hex()


class PdqHasher:
    """Hashes images of any size and mode.

    Raises ``MissingExtraError`` where pdqhash is not installed.
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
