"""Tables of rates, counted over the records of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, TypeVar

from safelight.evaluation.rates import Rate
from safelight.evaluation.record import Record
from safelight.types import Case

JudgedCase = tuple[Case, Record]
# What was asked and what came of it: a case and its record, or a labelled prompt and its verdict.
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: the rate of a group; ``expected`` is the true rate if it is known."""

    group: str
    rate: Rate
    expected: float | None = None

    def to_dict(self) -> dict[str, Any]:
        known = {} if self.expected is None else {"expected": self.expected}
        return {"group": self.group, **self.rate.to_dict(), **known}


Tables = Mapping[str, Sequence[Row]]


def rows(
    judged: Iterable[tuple[Asked, Answer]],
    groups: Callable[[Asked], Iterable[str]],
    counts: Callable[[Asked, Answer], bool],
) -> list[Row]:
    """Return for each group the rate of its answers that count; a group without answers has no row."""
    outcomes: dict[str, list[bool]] = {}
    for asked, answer in judged:
        for group in groups(asked):
            outcomes.setdefault(group, []).append(counts(asked, answer))
    return [Row(group, Rate.of(found)) for group, found in sorted(outcomes.items())]


def attribute_rows(judged: Iterable[JudgedCase], name: str) -> list[Row]:
    """Return how often an image has the attribute ``name`` ("style") that its case asks for.

    There is one row for each value of the attribute and one for all values together.
    """
    with_attribute = [(case, record) for case, record in judged if name in case.attributes]
    return rows(
        with_attribute,
        lambda case: ("all", case.attributes[name]),
        lambda case, record: record.details.get(name) == case.attributes[name],
    )


def shows(case: Case, record: Record) -> bool:
    """Return whether the image has everything that the case expects."""
    return case.expects <= record.labels.keys() and (
        not case.any_of or bool(case.any_of & record.labels.keys())
    )


def suite_tags(case: Case) -> list[str]:
    """Return the tags that name parts of a suite, not properties of one case ("label:knife")."""
    return [tag for tag in case.tags if ":" not in tag]


def tags_after(case: Case, prefix: str) -> list[str]:
    """Return what follows ``prefix`` in the tags of a case: "knife" of "label:knife"."""
    return [tag.removeprefix(prefix) for tag in case.tags if tag.startswith(prefix)]


def tags_without(case: Case, *prefixes: str) -> list[str]:
    """Return the tags of a case that start with none of ``prefixes``."""
    return [tag for tag in case.tags if not tag.startswith(prefixes)]


def distance(some: Sequence[Record], others: Sequence[Record]) -> float | None:
    """Return the mean distance between the features of the images of two runs of the same cases.

    Pairs without two images are left out; returns None if none is left.
    """
    both = zip(some, others, strict=True)
    apart = [math.dist(a.features, b.features) for a, b in both if a.released and b.released]
    return mean(apart) if apart else None
