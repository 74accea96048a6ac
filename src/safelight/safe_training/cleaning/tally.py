"""Counts of what a policy keeps and rejects in a data set."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from safelight.safe_training.cleaning.decision import DUPLICATE, HARMFUL, Decision
from safelight.safe_training.cleaning.findings import GIVEN_UP, Screened

# Bins of a histogram of scores from 0 to 1.
BINS = 20
# Number of examples listed for each category.
_EXAMPLES = 6


@dataclass
class Tally:
    """Counts of samples.

    - ``reasons``: samples that are "kept", and rejected samples by reason
    - ``found``: rejected samples by category and filter
    - ``scores``: for each category two histograms of ``BINS`` bins, of rejected and of kept samples, over all
      samples with a score in the category
    - ``groups``: for each group of captions the number of samples, and of those rejected as harmful
    - ``captioned``: the same two numbers for all samples with a caption
    - ``examples``: ids of the first rejected samples of each category
    - ``given_up``: ids that stand for the rest of a shard whose reading keeps crashing
    """

    policy: str
    reasons: Counter[str] = field(default_factory=Counter)
    found: Counter[tuple[str, str]] = field(default_factory=Counter)
    scores: dict[str, tuple[list[int], list[int]]] = field(default_factory=dict)
    groups: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    captioned: list[int] = field(default_factory=lambda: [0, 0])
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    given_up: list[str] = field(default_factory=list)

    def add(self, screened: Screened, decision: Decision) -> None:
        rejection = decision.rejection
        if screened.problem == GIVEN_UP:
            self.given_up.append(screened.id)
        self.reasons[rejection.reason if rejection else "kept"] += 1
        harmful = rejection is not None and rejection.reason == HARMFUL
        if rejection and rejection.category and rejection.filter:
            self.found[rejection.category, rejection.filter] += 1
            if len(mine := self.examples[rejection.category]) < _EXAMPLES:
                mine.append(screened.id)
        for category, score in decision.scores.items():
            both = self.scores.setdefault(category, ([0] * BINS, [0] * BINS))
            both[rejection is None][min(int(score * BINS), BINS - 1)] += 1
        if screened.groups is None or (rejection and rejection.reason not in (HARMFUL, DUPLICATE)):
            return
        for counts in (self.captioned, *(self.groups[name] for name in screened.groups)):
            counts[0] += 1
            counts[1] += harmful

    @property
    def samples(self) -> int:
        return self.reasons.total()

    def summary(self) -> dict[str, Any]:
        """Return the counts as JSON-ready data."""
        categories: Counter[str] = Counter()
        for (category, _), count in self.found.items():
            categories[category] += count
        others = {name: n for name, n in self.reasons.items() if name not in ("kept", HARMFUL)}
        rejected = Counter({**categories, **others})
        return {
            "samples": self.samples,
            **dict(sorted(self.reasons.items())),
            "rejected": dict(rejected.most_common()),
            "given_up": self.given_up,
        }
