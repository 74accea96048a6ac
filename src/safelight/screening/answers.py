"""Checks of what a filter answers: every value is checked before it is believed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from itertools import islice
from math import isfinite
from typing import Any, get_args

from safelight.errors import FilterError
from safelight.types import Concept, Evidence, Finding, HashMatch

FilterAnswer = list[Finding] | FilterError
"""The findings of one item, or why the filter could not look at it."""

KnownLabels = Mapping[str, Collection[str]]
"""The labels that a policy knows, by what ``folded`` makes of them."""

# More findings than any filter has reason to report of one item.
_MOST_FINDINGS = 100_000


def folded(label: str) -> str:
    """Return the label as it is compared with others, whatever its case and the spaces around it."""
    return label.strip().casefold()


def checked_answers(said: object, count: int, known: KnownLabels) -> list[FilterAnswer]:
    """Return the answers of a filter about ``count`` items as plain lists of exact findings.

    Lists, tuples and iterators are read, nothing else: an empty string, table or array is no list of
    findings. Raises ``FilterError`` for such, for a wrong number of answers, for a finding with a value that
    none may have, and for a label that a policy knows in another case only.
    """
    answers = [
        each if isinstance(each, FilterError) else [_finding(one, known) for one in _listed(each)]
        for each in _listed(said, count)
    ]
    if len(answers) != count:
        raise FilterError(f"{len(answers)} answers for {count} items")
    return answers


def _listed(said: object, most: int = _MOST_FINDINGS) -> list[Any]:
    """What can be read only once is read as far as it may be long, and one further."""
    if not isinstance(said, list | tuple | Iterator):
        raise FilterError(f"an answer that is not a list of findings but {type(said).__name__}")
    listed = list(islice(said, most + 1))
    if most == _MOST_FINDINGS < len(listed):
        raise FilterError(f"more than {_MOST_FINDINGS:,} findings for one item")
    return listed


def _finding(said: object, known: KnownLabels) -> Finding:
    """Return the same finding made anew, so that subclasses and values set later are checked as well."""
    if not isinstance(said, Finding):
        raise FilterError(f"an answer that is not a list of findings but has {type(said).__name__} in it")
    try:
        finding = Finding(_text(said.label), said.score, _text(said.filter), _evidence(said.evidence))
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise FilterError(f"a finding that cannot be ({error})") from error
    meant = known.get(folded(finding.label), ())
    if meant and finding.label not in meant:
        raise FilterError(f'the label "{finding.label}", which the policy spells "{min(meant)}"')
    return finding


def _evidence(said: object) -> Evidence | None:
    if said is None:
        return None
    kind = next((kind for kind in get_args(Evidence) if isinstance(said, kind)), None)
    if kind is None:
        raise TypeError(f"its evidence is {type(said).__name__}")
    evidence: Evidence = kind(*(getattr(said, field.name) for field in fields(kind)))
    if isinstance(evidence, Concept) and not (_text(evidence.name) and isfinite(evidence.similarity)):
        raise ValueError(f"its concept has the similarity {evidence.similarity}")
    if isinstance(evidence, HashMatch) and not (_text(evidence.bank) and _text(evidence.id)):
        raise ValueError("its known image has no name")
    return evidence


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"its label, filter or evidence is named {value!r}")
    return str.__str__(value)
