"""Validation of filter answers: every value that a filter returns is checked before it is used."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from itertools import islice
from math import isfinite
from typing import Any, get_args

from safelight.errors import FilterError
from safelight.types import Concept, Evidence, Finding, HashMatch

FilterAnswer = list[Finding] | FilterError
"""The findings in one item, or the reason why the filter could not process it."""

KnownLabels = Mapping[str, Collection[str]]
"""The labels that a policy knows, by their case-folded form (``folded``)."""

# More findings than any filter should report for one item.
_MAX_FINDINGS = 100_000


def folded(label: str) -> str:
    """Return the label case-folded and without surrounding whitespace, for comparisons."""
    return label.strip().casefold()


def validated_answers(answer: object, count: int, known: KnownLabels) -> list[FilterAnswer]:
    """Return the answers of a filter for ``count`` items as lists of validated findings.

    Only lists, tuples and iterators are accepted: an empty string, dictionary or array is not a list of
    findings. Raises ``FilterError`` for other types, for a wrong number of answers, for a finding with an
    invalid value, and for a label that the policy knows only in another case.
    """
    answers = [
        each if isinstance(each, FilterError) else [_finding(one, known) for one in _as_list(each)]
        for each in _as_list(answer, count)
    ]
    if len(answers) != count:
        raise FilterError(f"there are {len(answers)} answers for {count} items")
    return answers


def _as_list(answer: object, limit: int = _MAX_FINDINGS) -> list[Any]:
    """Return the elements of a list, tuple or iterator; an iterator is read up to one element over ``limit``.

    Raises ``FilterError`` for other types and for too many findings.
    """
    if not isinstance(answer, list | tuple | Iterator):
        raise FilterError(f"the answer is {type(answer).__name__}, not a list of findings")
    listed = list(islice(answer, limit + 1))
    if limit == _MAX_FINDINGS < len(listed):
        raise FilterError(f"there are more than {_MAX_FINDINGS:,} findings for one item")
    return listed


def _finding(answer: object, known: KnownLabels) -> Finding:
    """Return a new finding with the same values, so that those of subclasses are checked as well."""
    if not isinstance(answer, Finding):
        raise FilterError(f"the answer contains {type(answer).__name__}, which is not a finding")
    try:
        finding = Finding(_text(answer.label), answer.score, _text(answer.filter), _evidence(answer.evidence))
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise FilterError(f"a finding is invalid ({error})") from error
    spellings = known.get(folded(finding.label), ())
    if spellings and finding.label not in spellings:
        raise FilterError(f'the label "{finding.label}" is spelt "{min(spellings)}" in the policy')
    return finding


def _evidence(answer: object) -> Evidence | None:
    if answer is None:
        return None
    kind = next((kind for kind in get_args(Evidence) if isinstance(answer, kind)), None)
    if kind is None:
        raise TypeError(f"its evidence is {type(answer).__name__}")
    evidence: Evidence = kind(*(getattr(answer, field.name) for field in fields(kind)))
    if isinstance(evidence, Concept) and not (_text(evidence.name) and isfinite(evidence.similarity)):
        raise ValueError(f"the similarity of its concept is {evidence.similarity}")
    if isinstance(evidence, HashMatch) and not (_text(evidence.bank) and _text(evidence.id)):
        raise ValueError("its known image has no name")
    return evidence


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"the name of its label, filter or evidence is {value!r}")
    return str.__str__(value)
