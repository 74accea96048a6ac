"""Training examples: labelled texts, sampled so that sources and harmful and benign texts are balanced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from safelight.filters.text.training.grammar import Text
from safelight.filters.text.training.targets import Targets
from safelight.filters.text.training.written import FAMILY as WRITTEN

# Factors on how often a family is sampled: half of the texts are pairs that were written for this purpose, in
# the registers of real users, and labelled twice; texts that are no prompts count half.
_FAMILY_WEIGHTS: Mapping[str, float] = {WRITTEN: 6.0, "hatecheck": 0.5, "openai_moderation": 0.5}
# A source is weighted by the square root of its size, up to this many texts.
_MAX_COUNTED = 6000
# To keep padding low, this many times the batch size is sampled and sorted by length, and one part of it
# becomes the batch.
_BUCKETS = 12


class Examples:
    """Texts grouped by family and by whether they are harmful, with their targets."""

    def __init__(self, texts: Sequence[Text], targets: Targets) -> None:
        self.texts, self.targets = texts, targets
        self.groups: dict[tuple[str, bool], list[int]] = {}
        for row, text in enumerate(texts):
            if targets.kept[row]:
                self.groups.setdefault((text.family, bool(text.categories)), []).append(row)
        self._share = self._shares()

    def _shares(self) -> dict[tuple[str, bool], float]:
        """Return the sampling probability of each group; harmful and benign groups sum to one half each."""
        size = {
            group: min(len(rows), _MAX_COUNTED) ** 0.5 * _FAMILY_WEIGHTS.get(group[0], 1)
            for group, rows in self.groups.items()
        }
        side = {harmful: sum(size[g] for g in size if g[1] == harmful) for harmful in (True, False)}
        return {group: size[group] / (2 * side[group[1]]) for group in size}

    def weights(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the weight of each of ``rows``, with mean 1.

        The total weights of the groups are proportional to their sampling probabilities.
        """
        groups = [(self.texts[row].family, bool(self.texts[row].categories)) for row in rows]
        present = {group: groups.count(group) for group in set(groups)}
        weights: NDArray[np.float64] = np.array([self._share[group] / present[group] for group in groups])
        weights /= weights.mean()
        return weights

    def sample(
        self, size: int, lengths: NDArray[np.int64], step: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Sample the rows of a batch of texts of similar length; ``lengths`` (N,) are those of all texts.

        The ``step`` of the training decides how long the texts are, so that no process waits for another one
        whose texts happen to be longer.
        """
        groups = list(self.groups)
        chosen = rng.choice(len(groups), size * _BUCKETS, p=[self._share[group] for group in groups])
        rows = [self.groups[groups[k]][rng.integers(len(self.groups[groups[k]]))] for k in chosen]
        rows.sort(key=lambda row: int(lengths[row]))
        start = size * (step % _BUCKETS)
        return np.array(rows[start : start + size])
