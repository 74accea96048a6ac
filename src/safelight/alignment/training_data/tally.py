"""What a policy makes of a whole data set, in numbers."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from safelight.alignment.training_data.decision import DUPLICATE, HARMFUL, Decision
from safelight.alignment.training_data.findings import GIVEN_UP, Screened

# Of scores from 0 to 1.
BINS = 20
# Of each category so many are named.
_EXAMPLES = 6


@dataclass
class Tally:
    """``reasons`` has how many samples are "kept", and how many go for each reason; ``found`` how many go by
    category and filter.

    ``scores`` has for each category two histograms of ``BINS`` bins, of what goes and of what stays, of all
    samples in which the category was seen at all. ``groups`` has how many samples each group of captions
    has, and how many of them go as harmful; ``captioned`` the same of all samples with a caption.
    ``examples`` are ids of the first rejected ones of each category. ``given_up`` has the ids of those that
    stand for the rest of a shard that nobody could look at.
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
        """How many samples there are of each kind, JSON-ready."""
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
