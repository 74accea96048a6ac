"""Segmentation: divides letters without spaces into the likeliest words by dynamic programming."""

from __future__ import annotations

from collections.abc import Mapping

_UNKNOWN_LETTER = 15.0


class Segmenter:
    """Divides letters into known words.

    ``costs`` maps each word to its negative log frequency; words longer than ``longest`` are not considered.
    """

    def __init__(self, costs: Mapping[str, float], longest: int) -> None:
        self._costs = costs
        self._longest = min(longest, max(map(len, costs)))

    def divide(self, letters: str) -> tuple[float, list[str]]:
        """Return the cost and the words of the best division.

        Letters that belong to no known word become words of one letter.
        """
        costs, starts = [0.0], [0]
        for end in range(1, len(letters) + 1):
            cost, start = costs[-1] + _UNKNOWN_LETTER, end - 1
            for before in range(max(0, end - self._longest), end):
                word_cost = self._costs.get(letters[before:end])
                if word_cost is not None and costs[before] + word_cost < cost:
                    cost, start = costs[before] + word_cost, before
            costs.append(cost)
            starts.append(start)
        words, end = [], len(letters)
        while end:
            words.append(letters[starts[end] : end])
            end = starts[end]
        return costs[-1], words[::-1]
