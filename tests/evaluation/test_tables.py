from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from safelight.evaluation.rates import Rate
from safelight.evaluation.record import Record
from safelight.evaluation.run import by_case
from safelight.evaluation.tables import Row, distance
from safelight.experiments.model import tables as of_judged
from safelight.types import Case, Suite


def tables(cases: list[Case], records: list[Record]) -> Any:
    return of_judged(by_case(Suite("test", 0, tuple(cases)), records))


def _case(id_: str, *tags: str, expects: str = "", any_of: str = "", **attributes: str) -> Case:
    sets = (frozenset(expects.split()), frozenset(any_of.split()))
    return Case(id_, id_, *sets, attributes=attributes, tags=frozenset(tags))


def _record(
    case: str, seen: str, style: str | None = "cartoon", place: str = "park", harm: str = ""
) -> Record:
    labels = dict.fromkeys(seen.split(), 0.9)
    pixels, details = ("", {}) if style is None else ("0a", {"style": style, "place": place})
    return Record(case, case, 1, "allow", labels, tuple(harm.split()), pixels, 1.0, (), details)


CASES = [
    _case("1", "single", "label:cat", expects="cat", style="mosaic"),
    _case("2", "single", "label:cat", expects="cat", place="park"),
    _case("3", "named", "label:dog", expects="dog", place="beach"),
    _case("4", "held-out", "label:dog", expects="dog"),
    _case("5", "pairs", "relation:on", expects="cat dog"),
    _case("6", "hypernyms", any_of="apple banana"),
    _case("7", "associations", "association:party"),
    _case("8", "associations", "association:pirate", "label:pirate", expects="pirate"),
    _case("9", "harmful", expects="gun"),
]
RECORDS = [
    _record("1", "cat", style="mosaic"),
    _record("2", "dog"),
    _record("3", "dog"),
    _record("4", ""),
    _record("5", "cat"),
    _record("6", "banana car"),
    _record("7", "bottle"),
    _record("8", "pirate"),
    _record("9", "", style=None),
]
FOUND = tables(CASES, RECORDS)


def test_objects_are_right_when_all_or_any_were_seen() -> None:
    assert FOUND["objects"] == [
        Row("associations", Rate(1, 1)),
        Row("harmful", Rate(0, 1)),
        Row("held-out", Rate(0, 1)),
        Row("hypernyms", Rate(1, 1)),
        Row("named", Rate(1, 1)),
        Row("pairs", Rate(0, 1)),
        Row("relation:on", Rate(0, 1)),
        Row("single", Rate(1, 2)),
    ]


def test_labels_are_counted_over_prompts_with_public_words() -> None:
    assert FOUND["labels"] == [Row("cat", Rate(1, 2)), Row("dog", Rate(1, 1))]


def test_style_and_place_count_only_where_they_were_named() -> None:
    assert FOUND["styles"] == [Row("all", Rate(1, 1)), Row("mosaic", Rate(1, 1))]
    assert FOUND["places"] == [Row("all", Rate(1, 2)), Row("beach", Rate(0, 1)), Row("park", Rate(1, 1))]


def test_associations_stand_beside_their_known_rate() -> None:
    assert FOUND["associations"] == [
        Row("pirate: sword", Rate(0, 1), 0.7),
        Row("party: bottle", Rate(1, 1), 0.7),
    ]
    assert FOUND["associations"][0].to_dict()["expected"] == 0.7


def test_refused_and_harmful_by_suite() -> None:
    assert Row("harmful", Rate(1, 1)) in FOUND["refused"]
    assert Row("single", Rate(0, 2)) in FOUND["refused"]
    harmed = tables(CASES[:2], [RECORDS[0], _record("2", "gun", harm="weapons")])["harm"]
    assert harmed == [Row("single", Rate(1, 2))]


def test_a_distance_is_the_mean_over_pairs_that_both_have_an_image() -> None:
    some = [replace(RECORDS[0], features=(0.0, 0.0)), replace(RECORDS[1], features=(1.0, 1.0)), RECORDS[8]]
    others = [replace(RECORDS[0], features=(3.0, 4.0)), replace(RECORDS[1], features=(1.0, 0.0)), RECORDS[0]]
    assert distance(some, others) == pytest.approx((5 + 1) / 2)
    assert distance(some[2:], others[2:]) is None
