"""Checks of a policy's labels against those that its filters can report."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from safelight.errors import PolicyError, closest_match
from safelight.policy.context import ContextRule
from safelight.policy.policy import Policy
from safelight.policy.taxonomy import load_taxonomy
from safelight.storage.toml_file import KeyPath
from safelight.types import Stage

# The labels that a filter can report; None if it does not declare them.
Reported = Collection[str] | None


def check_labels(policy: Policy, reported: Sequence[Reported]) -> None:
    """Raise ``PolicyError`` for a label that no filter reports, as its rule would never apply.

    ``reported`` has the labels of each filter.
    """
    for problem in label_problems(policy, reported):
        raise PolicyError(problem)


def check_reach(policy: Policy, stage: Stage, reported: Sequence[Reported]) -> None:
    """Raise ``PolicyError`` for a threshold that no filter of the stage can reach, as it would never apply.

    ``reported`` has the labels of each filter of the stage.
    """
    for problem in reach_problems(policy, stage, reported):
        raise PolicyError(problem)


def label_problems(policy: Policy, reported: Sequence[Reported]) -> Iterator[str]:
    """Return a sentence for every label that no filter of any stage reports."""
    known = {*load_taxonomy().categories, *policy.categories}
    for labels in reported:
        if labels is None:
            return
        known.update(labels)
    for where, label in _labels(policy):
        if label not in known:
            near = closest_match(label, known)
            hint = f'did you mean "{near}"?' if near else "remove it or add a filter that does."
            sentence = f'no filter of the policy "{policy.name}" reports the label "{label}"; {hint}'
            yield policy.at(where, sentence)


def reach_problems(policy: Policy, stage: Stage, reported: Sequence[Reported]) -> Iterator[str]:
    """Return a sentence for every category whose thresholds at the stage no filter can reach.

    A stage whose filters report no label at all (``never``) is switched off on purpose.
    """
    seen: set[str] = set()
    for labels in reported:
        if labels is None:
            return
        seen.update(labels)
    if reported and not seen:
        return
    names = ", ".join(f'"{name}"' for name in policy.filters.of(stage))
    for category, rule in policy.categories.items():
        if getattr(rule, stage).steps() and not _reaches(policy, stage, category, seen):
            lacking = f"{names} cannot" if names else f"the policy lists no {stage} filter"
            yield policy.at(
                ("categories", category, stage),
                f'nothing can reach the {stage} thresholds of "{category}": {lacking}; list a filter that '
                f"reports it, or one whose labels mean it under [labels], or remove the thresholds.",
            )


def _reaches(policy: Policy, stage: Stage, category: str, seen: set[str]) -> bool:
    """Whether any of the labels ``seen`` leads to the category."""
    means = {category, *(label for label, of in policy.labels.items() if category in of)}
    rules = [rule for rule in policy.context if rule.category == category and stage in rule.stages]
    return bool(means & seen) or any(_applies(rule, seen) for rule in rules)


def _applies(rule: ContextRule, seen: set[str]) -> bool:
    return seen.issuperset(rule.all) and (not rule.any or not seen.isdisjoint(rule.any))


def _labels(policy: Policy) -> Iterator[tuple[KeyPath, str]]:
    """Return every label that the policy has a rule for, with its place in the policy."""
    for label in policy.labels:
        yield ("labels", label), label
    for label in policy.guidance.concepts if policy.guidance else ():
        yield ("guidance", "concepts", label), label
    for number, rule in enumerate(policy.context):
        for label in (*rule.all, *rule.any, *rule.unless, *rule.protected):
            yield ("context", number), label
