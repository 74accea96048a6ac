"""A policy: its filters, its thresholds, and the verdict on findings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, PrivateAttr, ValidationError

from safelight.errors import PolicyError, unknown_name
from safelight.policy.category import CSAE, CSAE_RULE, CategoryRule, Thresholds
from safelight.policy.context import ContextRule
from safelight.policy.filters import Filters
from safelight.policy.generation import EarlyStop, GuidanceRule, Hiding
from safelight.policy.log import Log
from safelight.policy.source import PolicySource, exists
from safelight.policy.table import Names, Table, Text
from safelight.policy.taxonomy import load_taxonomy
from safelight.policy.validation import validation_problems
from safelight.storage.toml_file import KeyPath
from safelight.types import (
    STAGES,
    WHOLE_IMAGE,
    Action,
    Box,
    CategoryScore,
    FilterRun,
    Finding,
    Stage,
    Verdict,
)

_Evidence = tuple[float, tuple[str, ...]]
_Claim = tuple[str, float, tuple[str, ...]]

_OWN_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")


class Policy(Table):
    """The rules of a service: ``Policy.load`` reads them from TOML, ``judge`` applies them to findings."""

    name: Text
    """Name of the policy, which is part of verdicts and records. Never inherited."""
    version: Text
    """Version of the policy, which is part of verdicts and records. Never inherited."""
    description: str = ""
    """Description of the policy in one sentence."""
    not_detected: Names = ()
    """The harm that the filters of the policy do not detect, in words. It changes no verdict."""
    filters: Filters
    """Filters by stage, with their options."""
    categories: dict[str, CategoryRule] = Field(default_factory=dict)
    """Thresholds by category id. A name with a dot is quoted."""
    labels: dict[str, Names] = Field(default_factory=dict)
    """The categories that each label of a filter counts for, by label."""
    context: Annotated[tuple[ContextRule, ...], Field(strict=False)] = ()
    """Rules about labels that are harmful only in combination."""
    early_stop: EarlyStop | None = None
    """When unfinished images are screened; by default never."""
    guidance: GuidanceRule | None = None
    """How images are guided away from harm; by default they are not."""
    hiding: Hiding = Hiding()
    """How images are blurred under the action ``blur``."""
    log: Log = Log()
    """The content that the request log may have."""
    _source: PolicySource | None = PrivateAttr(default=None)

    @classmethod
    def load(cls, name_or_path: str | Path) -> Policy:
        """Load a packaged policy by name, or a TOML file. Raises ``PolicyError``, naming file and line."""
        policy, problems = cls.read(PolicySource.read(name_or_path))
        if policy is None or problems:
            raise PolicyError(problems[0])
        return policy

    @classmethod
    def read(cls, source: PolicySource) -> tuple[Policy | None, list[str]]:
        """Return the policy and a list of its problems; the policy is None if its tables are not valid."""
        try:
            policy = cls.model_validate(source.data)
        except ValidationError as error:
            return None, list(validation_problems(source, error, cls))
        policy._source = source
        return policy, [source.at(*each) for each in (*_category_problems(policy), *_delta_problems(policy))]

    @property
    def source(self) -> PolicySource | None:
        """The files that the policy was read from; None for a policy that was made in Python."""
        return self._source

    def at(self, where: KeyPath, sentence: str) -> str:
        """Return ``sentence`` about a key, with file and line if the policy was read from a file."""
        return self._source.at(where, sentence) if self._source else sentence

    def folder_of(self, where: KeyPath) -> Path:
        """Return the folder of the file that has the key: a path in the key is relative to it."""
        return self._source.folder_of(where) if self._source else Path()

    @property
    def deltas(self) -> dict[str, Path]:
        """The files of ``[guidance.deltas]``, whose paths are relative to the policy's file."""
        deltas = self.guidance.deltas if self.guidance else {}
        return {name: self.folder_of(("guidance", "deltas", name)) / path for name, path in deltas.items()}

    @property
    def id(self) -> str:
        """The name and version of the policy and of those that it extends: ``ours 1 (general 2026.4)``."""
        bases = f" ({', '.join(self._source.bases)})" if self._source and self._source.bases else ""
        return f"{self.name} {self.version}{bases}"

    def judge(
        self,
        stage: Stage,
        findings: Sequence[Finding],
        *,
        filters: Mapping[str, FilterRun] | None = None,
        problem: str | None = None,
        subject: str = "prompt",
        index: int = 0,
        beside: bool = False,
    ) -> Verdict:
        """Return the verdict on findings; a ``problem`` with the item or with a filter leads to a block.

        ``beside`` means that the findings come from text that accompanies an image which is judged as well
        (see ``ContextRule``).
        """
        filters = dict(filters or {})
        problems = [problem, *(run.problem for run in filters.values())]
        reasons = tuple(sentence for sentence in problems if sentence)
        categories = {
            category: self._score(category, stage, score, labels)
            for category, (score, labels) in sorted(self._categories(stage, findings, beside).items())
        }
        action = max((c.action for c in categories.values()), default=Action.ALLOW)
        return Verdict(
            stage=stage,
            action=Action.BLOCK if reasons else action,
            categories=categories,
            findings=tuple(findings),
            policy=self.id,
            elapsed_ms=sum(run.elapsed_ms for run in filters.values()),
            filters=filters,
            reasons=reasons,
            subject=subject,
            index=index,
        )

    def again(self, verdict: Verdict, score: float) -> Verdict:
        """Return the verdict on the same findings if steering, blurring or blocking starts at ``score``."""
        rules = {
            name: rule.model_copy(update={s: getattr(rule, s).stricter(score) for s in STAGES})
            for name, rule in self.categories.items()
        }
        return self.model_copy(update={"categories": rules}).judge(
            verdict.stage,
            verdict.findings,
            filters=verdict.filters,
            subject=verdict.subject,
            index=verdict.index,
        )

    def _score(self, category: str, stage: Stage, score: float, labels: tuple[str, ...]) -> CategoryScore:
        rule = CSAE_RULE if category == CSAE else self.categories.get(category)
        action, threshold = getattr(rule, stage, Thresholds()).decide(score)
        return CategoryScore(score, action, threshold, labels)

    def _categories(self, stage: Stage, findings: Iterable[Finding], beside: bool) -> dict[str, _Evidence]:
        """Return the highest score of each category and the labels that it comes from."""
        seen: dict[str, float] = {}
        boxes: dict[str, list[Box]] = {}
        for finding in findings:
            seen[finding.label] = max(finding.score, seen.get(finding.label, 0.0))
            box = finding.evidence if isinstance(finding.evidence, Box) else WHOLE_IMAGE
            boxes.setdefault(finding.label, []).append(box)
        claims: list[_Claim] = [
            (c, score, (label,)) for label, score in seen.items() for c in self._meaning(label)
        ]
        rules = [rule for rule in self.context if stage in rule.stages]
        claims += [(rule.category, *rule.apply(seen, boxes, beside=beside)) for rule in rules]
        scores: dict[str, _Evidence] = {}
        for category, score, labels in claims:
            if score > scores.get(category, (0.0, ()))[0]:
                scores[category] = (score, labels)
        return scores

    def _meaning(self, label: str) -> tuple[str, ...]:
        own = (label,) if label in self.categories or label in load_taxonomy().categories else ()
        return own + self.labels.get(label, ())


def _category_problems(policy: Policy) -> Iterator[tuple[KeyPath, str]]:
    """Return problems of categories that are unknown, cannot be set, or are used without a threshold."""
    known = load_taxonomy().categories
    # Findings of a category that was removed on purpose are still reported, and allowed.
    settled = {CSAE, *policy.categories, *(policy.source.removed if policy.source else ())}
    for category, rule in policy.categories.items():
        if sentence := _category_problem(category, rule):
            yield ("categories", category), sentence
    for path, category in _used(policy):
        if category not in known and category not in settled:
            yield path, unknown_name("category", category, {*known, *policy.categories})
        elif category not in settled:
            yield path, f'[categories."{category}"] is missing; add it.'


def _category_problem(category: str, rule: CategoryRule) -> str | None:
    known = load_taxonomy().categories
    if category == CSAE:
        return "csae is always on; remove this table."
    if rule.description is None:
        unknown = f"{unknown_name('category', category, known)} One of your own needs a description."
        return None if category in known else unknown
    if category in known:
        return "the taxonomy describes this category already; remove its description."
    # Names that could be confused with csae, which no policy can change, are not allowed.
    if not _OWN_NAME.fullmatch(category) or category.replace("_", "").startswith(CSAE):
        return (
            f'"{category}" cannot be a category; use lower-case letters, digits and underscores, in parts '
            f"separated by dots, and do not begin the name with csae."
        )
    return None


def _used(policy: Policy) -> list[tuple[KeyPath, str]]:
    by_label: list[tuple[KeyPath, str]] = [
        (("labels", label), c) for label, cs in policy.labels.items() for c in cs
    ]
    return [*by_label, *((("context", i, "category"), r.category) for i, r in enumerate(policy.context))]


def _delta_problems(policy: Policy) -> Iterator[tuple[KeyPath, str]]:
    for name, path in policy.deltas.items():
        if not (exists(path) and path.is_file()):
            yield ("guidance", "deltas", name), f"there is no file {path}; give one that exists."
