from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.errors import FilterError
from safelight.screening.answers import validated_answers
from safelight.types import Box, Concept, Finding, HashMatch, Span

KNOWN = {"weapons": {"weapons"}, "gun": {"gun", "GUN"}}
GOOD = Finding("gun", 0.5, "f", Box(0.0, 0.0, 1.0, 1.0))


class Unchecked(Finding):
    """A finding that forgets to check what it is given."""

    def __post_init__(self) -> None:
        pass


class UncheckedBox(Box):
    def __post_init__(self) -> None:
        pass


class UncheckedSpan(Span):
    def __post_init__(self) -> None:
        pass


class Own(StrEnum):
    GUN = "gun"


def _set_later(**values: Any) -> Finding:
    finding = dataclasses.replace(GOOD)
    for name, value in values.items():
        object.__setattr__(finding, name, value)
    return finding


def _breaks_off() -> Iterator[Finding]:
    yield GOOD
    raise RuntimeError("out of memory")


def _endless() -> Iterator[Any]:
    while True:
        yield []


@pytest.mark.parametrize(
    "said",
    [
        None,
        True,
        "",
        "gun",
        {},
        {"gun": 0.5},
        set(),
        np.zeros(0),
        np.zeros((1, 0)),
        np.array([None]),
        range(1),
        GOOD,
        FilterError("it is torn."),
        [GOOD],
        [""],
        ["gun"],
        [b""],
        [{}],
        [{"gun": 0.5}],
        [set()],
        [None],
        [False],
        [0],
        [np.zeros(0)],
        [ValueError("it is torn.")],
        [[None]],
        [["gun"]],
        [[("gun", 0.5)]],
        [[[GOOD]]],
        [],
        [[], []],
        _endless(),
        [_endless()],
    ],
)
def test_what_is_no_list_of_findings_is_not_read_as_nothing_found(said: Any) -> None:
    with pytest.raises(FilterError):
        validated_answers(said, 1, KNOWN)


@pytest.mark.parametrize(
    "finding",
    [
        Unchecked("gun", float("nan"), "f"),
        Unchecked("gun", -0.1, "f"),
        Unchecked("gun", 1.5, "f"),
        Unchecked("gun", None, "f"),  # type: ignore[arg-type]
        Unchecked("gun", "high", "f"),  # type: ignore[arg-type]
        Unchecked("gun", [], "f"),  # type: ignore[arg-type]
        Unchecked("gun", 10**400, "f"),
        Unchecked("", 0.5, "f"),
        Unchecked(None, 0.5, "f"),  # type: ignore[arg-type]
        Unchecked(b"gun", 0.5, "f"),  # type: ignore[arg-type]
        Unchecked(("gun",), 0.5, "f"),  # type: ignore[arg-type]
        Unchecked("gun", 0.5, None),  # type: ignore[arg-type]
        Unchecked("gun", 0.5, 7),  # type: ignore[arg-type]
        Finding("gun", 0.5, "f", UncheckedBox(5, 5, -5, -5)),
        Finding("gun", 0.5, "f", UncheckedBox(0.0, float("nan"), 1.0, 1.0)),
        Finding("gun", 0.5, "f", UncheckedBox(0.0, 0.0, 1.0, None)),  # type: ignore[arg-type]
        Finding("gun", 0.5, "f", UncheckedSpan(3, 1, "gun")),
        Finding("gun", 0.5, "f", Concept("gun", float("nan"))),
        Finding("gun", 0.5, "f", Concept(None, 0.5)),  # type: ignore[arg-type]
        Finding("gun", 0.5, "f", HashMatch("", "", 0)),
        Finding("gun", 0.5, "f", (0, 0, 1, 1)),  # type: ignore[arg-type]
        _set_later(score=float("nan")),
        _set_later(score=-1.0),
        _set_later(label=0),
        _set_later(evidence="here"),
        Finding.__new__(Finding),
    ],
)
def test_a_finding_is_believed_only_with_values_that_it_may_have(finding: Finding) -> None:
    with pytest.raises(FilterError, match="a finding is invalid"):
        validated_answers([[GOOD, finding]], 1, KNOWN)


@pytest.mark.parametrize("label", ["Weapons", "WEAPONS", " weapons", "weapons\n", "Gun"])
def test_a_label_that_the_policy_spells_otherwise_is_refused(label: str) -> None:
    with pytest.raises(FilterError, match=r"is spelt .* in the policy"):
        validated_answers([[Finding(label, 1.0, "f")]], 1, KNOWN)


@pytest.mark.parametrize("label", ["weapons", "gun", "GUN", "Knife", Own.GUN])
def test_labels_that_the_policy_has_or_does_not_know_are_taken(label: str) -> None:
    ((finding,),) = validated_answers([[Finding(label, 1.0, "f")]], 1, KNOWN)  # type: ignore[misc]
    assert finding == Finding(label, 1.0, "f")
    assert type(finding.label) is str


def test_lists_tuples_and_iterators_of_findings_are_answers() -> None:
    torn = FilterError("it is torn.")
    said = iter([(GOOD,), [], (each for each in [GOOD]), torn])
    assert validated_answers(said, 4, KNOWN) == [[GOOD], [], [GOOD], torn]


def test_what_an_iterator_raises_is_not_taken_for_its_end() -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        validated_answers([_breaks_off()], 1, KNOWN)


def test_findings_of_a_subclass_become_exact_ones() -> None:
    ((finding,),) = validated_answers([[Unchecked("gun", np.float32(0.5), "f")]], 1, {})  # type: ignore
    assert (type(finding), type(finding.score)) == (Finding, float)


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.just(GOOD) | st.builds(FilterError),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(st.text(), inner, max_size=1)
    ),
    max_leaves=6,
)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(VALUES, st.integers(0, 3))
def test_whatever_a_filter_says_is_findings_or_an_error(said: Any, count: int) -> None:
    try:
        answers = validated_answers(said, count, KNOWN)
    except FilterError:
        return
    assert isinstance(said, list | tuple)
    assert len(answers) == len(said) == count
    for answer in answers:
        assert isinstance(answer, FilterError) or all(finding == GOOD for finding in answer)
