"""From what a classifier and a word list say to one probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LEAST = 1e-6


@dataclass(frozen=True, slots=True)
class Calibration:
    """The log odds of harm are ``slope`` · logit + ``words`` · listed + ``shift`` (Platt 1999, two features).

    ``listed`` is the score in [0, 1] of the worst word of a list. The two err on different prompts: the
    network on sources it never saw, the list on words that mean no harm where they stand.
    """

    slope: float = 1.0
    words: float = 0.0
    shift: float = 0.0

    def probability(self, logits: NDArray[Any], listed: NDArray[Any]) -> NDArray[np.float64]:
        """P(harm) of each prompt, (N,)."""
        import numpy as np

        odds: NDArray[np.float64] = self.slope * logits + self.words * listed + self.shift
        p: NDArray[np.float64] = 1 / (1 + np.exp(-odds))
        return p

    def of(self, scores: NDArray[np.float32], listed: float) -> NDArray[np.float32]:
        """``scores`` (…) of one prompt, of which the highest is P(harm), all multiplied alike to be right."""
        import numpy as np

        harm = scores.max()
        if np.isnan(harm):
            return scores
        p = self.probability(logit(np.array([harm])), np.array([listed]))[0]
        calibrated: NDArray[np.float32] = (scores * (p / max(harm, _LEAST))).astype(np.float32)
        return calibrated


def logit(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """ln p / (1 - p), with p kept a millionth from 0 and 1."""
    import numpy as np

    p: NDArray[np.float64] = np.clip(probabilities.astype(np.float64), _LEAST, 1 - _LEAST)
    odds: NDArray[np.float64] = np.log(p / (1 - p))
    return odds
