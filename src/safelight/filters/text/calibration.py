"""Calibration: combines the scores of a classifier and a word list into one probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Calibration:
    """The log odds of harm are ``slope`` · logit + ``words`` · listed + ``shift`` (Platt 1999, two features).

    ``listed`` is the highest score in [0, 1] of the listed words in the prompt. The two scores complement
    each other, because they fail on different prompts: the network on sources that it was not trained on,
    the word list on words that are harmless in their context.
    """

    slope: float = 1.0
    words: float = 0.0
    shift: float = 0.0

    def probability(self, logits: NDArray[Any], listed: NDArray[Any]) -> NDArray[np.float64]:
        """Return P(harm) of each prompt, (N,)."""
        import numpy as np

        odds: NDArray[np.float64] = self.slope * logits + self.words * listed + self.shift
        p: NDArray[np.float64] = 1 / (1 + np.exp(-odds))
        return p

    def calibrate(self, scores: NDArray[np.float32], listed: float) -> NDArray[np.float32]:
        """Return the calibrated ``scores`` (…) of one prompt.

        The highest score is P(harm). It is calibrated, and all scores are multiplied by the same factor.
        """
        import numpy as np

        harm = scores.max()
        if np.isnan(harm):
            return scores
        p = self.probability(logit(np.array([harm])), np.array([listed]))[0]
        calibrated: NDArray[np.float32] = (scores * (p / max(harm, _EPSILON))).astype(np.float32)
        return calibrated


def logit(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return ln(p / (1 - p)), with p clipped to [1e-6, 1 - 1e-6]."""
    import numpy as np

    p: NDArray[np.float64] = np.clip(probabilities.astype(np.float64), _EPSILON, 1 - _EPSILON)
    odds: NDArray[np.float64] = np.log(p / (1 - p))
    return odds
