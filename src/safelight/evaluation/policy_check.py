"""Validation of a policy and its filters before any request."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from safelight.errors import PolicyError, RegistryError, SafelightError
from safelight.policy import Policy, PolicySource, label_problems, reach_problems
from safelight.screening.listed_filter import ListedFilter
from safelight.types import STAGES, Stage

# The labels that a filter can report; None if it does not declare them or could not be built.
_Reported = Collection[str] | None


def policy_problems(name_or_path: str | Path, stages: Sequence[Stage] = STAGES) -> list[str]:
    """Return one sentence for each problem of a policy, with file and line; an empty list if it is valid.

    The filters of ``stages`` are built to find out which labels they report, which takes time and memory.
    """
    try:
        policy, problems = Policy.read(PolicySource.read(name_or_path))
    except PolicyError as error:
        return [str(error)]
    if policy is None:
        return problems
    reported: dict[Stage, list[_Reported]] = {}
    for stage in stages:
        reported[stage] = [_made(policy, stage, name, problems) for name in policy.filters.of(stage)]
    return [*problems, *_unreached(policy, reported)]


def _made(policy: Policy, stage: Stage, name: str, problems: list[str]) -> _Reported:
    """Return the labels that the filter reports; if it cannot be built, add the reason to ``problems``."""
    try:
        listed = ListedFilter.of(policy, stage, name)
        listed.check()
        labels: _Reported = getattr(listed.build(), "labels", None)
    except (PolicyError, RegistryError) as error:  # which name the line
        problems.append(str(error))
    except SafelightError as error:
        where = ("filters", "options", name) if name in policy.filters.options else ("filters", stage)
        problems.append(policy.at(where, str(error)))
    else:
        return labels
    return None


def _unreached(policy: Policy, reported: dict[Stage, list[_Reported]]) -> Iterator[str]:
    if all(stage in reported for stage in STAGES if policy.filters.of(stage)):
        yield from label_problems(policy, [labels for each in reported.values() for labels in each])
    for stage, labels in reported.items():
        yield from reach_problems(policy, stage, labels)
