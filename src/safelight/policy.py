"""Policies: TOML files that say which findings are harm, how sure is sure enough, and what then.

A policy decides and never runs a model, so the same findings can be judged again under another one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from safelight.blur import Style
from safelight.errors import PolicyError, closest, no_such
from safelight.taxonomy import load_taxonomy
from safelight.toml_file import TomlFile
from safelight.types import STAGES, WHOLE, Action, Box, CategoryScore, FilterRun, Finding, Stage, Verdict

_PACKAGED = Path(__file__).with_name("policies")

Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)]
Stages = Annotated[tuple[Stage, ...], Field(strict=False, min_length=1)]

Boxes = Mapping[str, Sequence[Box]]
# Where things are that were found without a place.
_ANYWHERE = (WHOLE,)
_Evidence = tuple[float, tuple[str, ...]]
_Claim = tuple[str, float, tuple[str, ...]]

# How sure a filter must be of something harmless before it excuses something harmful.
_CONFIDENT = 0.5


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Thresholds(_Table):
    """From which score on each action is taken; must not fall from ``review`` to ``block``."""

    review: Score | None = None
    steer: Score | None = None
    blur: Score | None = None
    block: Score | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        given = [threshold for _, threshold in self.steps()]
        if given != sorted(given):
            raise ValueError("the thresholds must not fall from review over steer and blur to block")
        return self

    def steps(self) -> list[tuple[Action, float]]:
        """The thresholds that are set, mildest action first."""
        steps = [(action, getattr(self, action.value, None)) for action in Action]
        return [(action, threshold) for action, threshold in steps if threshold is not None]

    def decide(self, score: float) -> tuple[Action, float | None]:
        """The severest action whose threshold ``score`` reaches, and that threshold."""
        reached = [step for step in self.steps() if score >= step[1]]
        return reached[-1] if reached else (Action.ALLOW, None)

    def stricter(self, score: float) -> Self:
        """The mildest action that changes a picture or keeps it back is taken from ``score`` on."""
        step = next((step for step in self.steps() if step[0] >= Action.STEER), None)
        if step is None or step[1] <= score:
            return self
        return self.model_copy(update={step[0].value: score})


class CategoryRule(_Table):
    """The thresholds of one category at each stage; a stage that is left out never acts."""

    prompt: Thresholds = Thresholds()
    image: Thresholds = Thresholds()
    pair: Thresholds = Thresholds()

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.prompt.blur is not None:
            raise ValueError("a prompt cannot be blurred; use review, steer or block")
        if not any(getattr(self, stage).steps() for stage in STAGES):
            raise ValueError("no threshold is set; set at least one or remove the category")
        return self


class ContextRule(_Table):
    """Labels that are harmless apart and harmful together.

    Every label of ``all`` and one of ``any`` must be seen. A label of ``unless``, seen with confidence,
    excuses the company, but never a label of ``protected``. With ``overlap``, only such company counts as
    shares at least this much of the smaller box with every label of ``all``, as a hand and what it holds do;
    ``protected`` company counts at any distance, and so does what was found without a box. Of words that
    lie ``beside`` a picture that was looked at, a rule with ``overlap`` for pictures sees protected company
    alone: how close the rest is, the picture shows.
    """

    category: str
    stages: Stages = ("image", "pair")
    all: Names = ()
    any: Names = ()
    unless: Names = ()
    protected: Names = ()
    overlap: Score = 0.0
    score: Score = 1.0

    @model_validator(mode="after")
    def _has_labels(self) -> Self:
        if not self.all and not self.any:
            raise ValueError("the rule names no label; list some under all or any")
        return self

    def apply(
        self, seen: Mapping[str, float], boxes: Boxes, *, beside: bool = False
    ) -> tuple[float, tuple[str, ...]]:
        """The rule's score, ``score`` times the weakest label it needs, and the labels that made it."""
        if not all(seen.get(label) for label in self.all):
            return 0.0, ()
        told_by_picture = beside and self.overlap > 0 and bool(self.any) and "image" in self.stages
        spared = told_by_picture or any_of(seen, self.unless) >= _CONFIDENT
        company = self.protected if spared else self._company(seen, boxes)
        if not company and (spared or self.any):
            return 0.0, ()
        needed = [seen[label] for label in self.all]
        if company:
            needed.append(any_of(seen, company))
        return self.score * min(needed), (*self.all, *(label for label in company if seen.get(label)))

    def _company(self, seen: Mapping[str, float], boxes: Boxes) -> tuple[str, ...]:
        """Those of ``any`` that were seen, and close enough."""
        present = [label for label in self.any if seen.get(label)]
        near = self.protected if self.overlap else present
        return tuple(label for label in present if label in near or self._close(label, boxes))

    def _close(self, label: str, boxes: Boxes) -> bool:
        """Not "at least": a box that is no number is close."""
        mine = boxes.get(label, _ANYWHERE)
        return all(
            any(not _shared(a, b) < self.overlap for a in boxes.get(thing, _ANYWHERE) for b in mine)
            for thing in self.all
        )


class Filters(_Table):
    """Which filters run at each stage, cheapest first, by instance name."""

    prompt: Names = ()
    image: Names = ()
    pair: Names = ()
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    options: dict[str, dict[str, Any]] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [name for stage in STAGES for name in self.of(stage)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f'"{twice[0]}" is listed twice; rename one and set use = "…" in its options')
        if idle := sorted(self.options.keys() - set(names)):
            raise ValueError(f'no stage lists "{idle[0]}"; list it or remove its options')
        return self

    def of(self, stage: Stage) -> tuple[str, ...]:
        names: tuple[str, ...] = getattr(self, stage)
        return names


Share = Annotated[float, Field(gt=0, lt=1)]


class EarlyStop(_Table):
    """After which shares of its steps a picture is looked at before it is finished, and how sure it takes.

    A picture that the policy would block is given up if its score is at least ``score``.
    """

    at: Annotated[tuple[Share, ...], Field(strict=False, min_length=1)]
    score: Score


Strength = Literal["erasure", "projection", "weak", "medium", "strong", "max"]


class Led(_Table):
    """How strongly pictures are led away from harm while they are made.

    ``projection`` leaves out of what the model is told what was seen, or what the policy minds of a prompt;
    ``weak`` to ``max`` add Safe Latent Diffusion. ``erasure`` puts the ``deltas`` of what was seen on the
    model's weights, or all if nothing was; where there is none it is passed over.

    ``default`` is for every prompt, ``review`` for prompts under review. A picture that would be hidden or
    blocked, and a prompt or picture under ``steer``, is drawn with each of ``steer`` in turn until nothing is
    seen in it: with a ``score``, nothing from that score on. ``concepts`` says what stands for a label or
    category that was seen, ``deltas`` which file, beside the policy's, takes it out of the weights.
    """

    default: Strength | None = None
    review: Strength | None = None
    steer: Annotated[tuple[Strength, ...], Field(strict=False)] = ()
    score: Score | None = None
    concepts: dict[str, Annotated[str, Field(min_length=1)]] = {}
    deltas: dict[str, Annotated[str, Field(min_length=1)]] = {}

    @model_validator(mode="after")
    def _named(self) -> Self:
        for name in self.deltas:
            if name not in self.concepts and name not in load_taxonomy().categories:
                raise ValueError(f'nothing in [guidance.concepts] stands for "{name}", which has a delta')
        return self


class Hiding(_Table):
    """How pictures under ``blur`` are hidden: where something was found, or with ``whole`` everywhere."""

    style: Style = "blur"
    whole: bool = False


class Log(_Table):
    """Says what the log of requests and audit records may hold.

    Prompts are hashed; with ``prompts``, their text is there as well, and so are sentences that may quote it.
    Anyone can check a guess at a prompt against its SHA-256; with ``key_variable``, the name of an
    environment variable that holds a secret key, only someone who has the key can.
    """

    prompts: bool = False
    key_variable: Annotated[str, Field(min_length=1)] | None = None


# Pictures of child abuse are never a matter of configuration.
_CSAE = "csae"
_CSAE_RULE = CategoryRule(**dict.fromkeys(STAGES, Thresholds(block=0.2)))


class Policy(_Table):
    """What a service allows. ``Policy.load`` reads one; ``judge`` applies it."""

    name: Annotated[str, Field(min_length=1)]
    version: Annotated[str, Field(min_length=1)]
    description: str = ""
    filters: Filters
    categories: dict[str, CategoryRule] = {}
    labels: dict[str, Names] = {}
    context: Annotated[tuple[ContextRule, ...], Field(strict=False)] = ()
    early_stop: EarlyStop | None = None
    guidance: Led | None = None
    hiding: Hiding = Hiding()
    log: Log = Log()
    _folder: Path = PrivateAttr(default=Path())

    @classmethod
    def load(cls, name_or_path: str | Path) -> Policy:
        """A packaged policy by name, or a TOML file. Raises ``PolicyError``, naming file and line."""
        file = TomlFile(policy_path(name_or_path), PolicyError)
        try:
            policy = cls.model_validate(file.data)
        except ValidationError as error:
            raise PolicyError(_sentence(file, error)) from error
        _check_categories(file, policy)
        policy._folder = file.path.parent
        for name, path in policy.deltas.items():
            if not path.is_file():
                raise PolicyError(_at(file, ("guidance", "deltas", name), f"there is no file {path}."))
        return policy

    @property
    def deltas(self) -> dict[str, Path]:
        """The files of ``[guidance.deltas]``, which lie beside the policy's unless they say otherwise."""
        return {name: self._folder / path for name, path in (self.guidance or Led()).deltas.items()}

    @property
    def id(self) -> str:
        return f"{self.name} {self.version}"

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
        """The verdict on what was found. A ``problem``, of the item or of a filter, makes it a block.

        ``beside`` says that these are words beside a picture which is judged as well (``ContextRule``).
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
        """The verdict on the same findings where hiding, blocking or steering begins at ``score``."""
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
        rule = _CSAE_RULE if category == _CSAE else self.categories.get(category)
        action, threshold = getattr(rule, stage, Thresholds()).decide(score)
        return CategoryScore(score, action, threshold, labels)

    def _categories(self, stage: Stage, findings: Iterable[Finding], beside: bool) -> dict[str, _Evidence]:
        """Category -> its highest score and the labels that gave it."""
        seen: dict[str, float] = {}
        boxes: dict[str, list[Box]] = {}
        for finding in findings:
            seen[finding.label] = max(finding.score, seen.get(finding.label, 0.0))
            box = finding.evidence if isinstance(finding.evidence, Box) else WHOLE
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
        own = (label,) if label in load_taxonomy().categories else ()
        return own + self.labels.get(label, ())


def check_labels(policy: Policy, reported: Sequence[Collection[str] | None]) -> None:
    """Refuses a label that no filter reports: it is misspelt, and its rule would never act.

    ``reported`` has the labels of each filter, None for one that does not tell. Raises ``PolicyError``.
    """
    known = set(load_taxonomy().categories)
    for labels in reported:
        if labels is None:
            return
        known.update(labels)
    rules = [(*rule.all, *rule.any, *rule.unless, *rule.protected) for rule in policy.context]
    concepts = policy.guidance.concepts if policy.guidance else {}
    for label in (*policy.labels, *concepts, *(label for rule in rules for label in rule)):
        if label not in known:
            near = closest(label, known)
            hint = f'did you mean "{near}"?' if near else "remove it or add a filter that does."
            raise PolicyError(f'no filter of the policy "{policy.name}" reports the label "{label}"; {hint}')


def packaged_policies() -> tuple[str, ...]:
    """The names that ``Policy.load`` knows without a file."""
    return tuple(sorted(path.stem for path in _PACKAGED.glob("*.toml")))


def any_of(seen: Mapping[str, float], labels: Iterable[str]) -> float:
    """The highest score among ``labels``; 0 if none was seen."""
    return max((seen.get(label, 0.0) for label in labels), default=0.0)


def _shared(one: Box, other: Box) -> float:
    """How much of the smaller box lies in the other; all of a box without area."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    smaller = min((box.right - box.left) * (box.bottom - box.top) for box in (one, other))
    return max(0.0, width) * max(0.0, height) / smaller if smaller > 0 else 1.0


def policy_path(name_or_path: str | Path) -> Path:
    """The file of a packaged policy, or the path that was given. Raises ``PolicyError`` for no such name."""
    name = str(name_or_path)
    if name in packaged_policies():
        return _PACKAGED / f"{name}.toml"
    path = Path(name_or_path)
    if path.suffix == ".toml" or len(path.parts) > 1 or path.is_file():
        return path
    raise PolicyError(no_such("policy", name, packaged_policies()))


def _check_categories(file: TomlFile, policy: Policy) -> None:
    """Refuses categories that nobody knows, that cannot be set, or that are used without a threshold."""
    known = load_taxonomy().categories
    for category in policy.categories:
        if category == _CSAE:
            raise PolicyError(_at(file, ("categories", category), "csae is always on; remove this table."))
        if category not in known:
            raise PolicyError(_at(file, ("categories", category), no_such("category", category, known)))
    for path, category in _used(policy):
        if category not in known:
            raise PolicyError(_at(file, path, no_such("category", category, known)))
        if category not in policy.categories and category != _CSAE:
            raise PolicyError(_at(file, path, f'[categories."{category}"] is missing; add it.'))


def _used(policy: Policy) -> list[tuple[tuple[str | int, ...], str]]:
    by_label = [(("labels", label), c) for label, cs in policy.labels.items() for c in cs]
    return [*by_label, *((("context", i, "category"), r.category) for i, r in enumerate(policy.context))]


def _at(file: TomlFile, path: tuple[str | int, ...], sentence: str) -> str:
    return f"{file.path}, line {file.line_of(path)}: {sentence}"


def _sentence(file: TomlFile, error: ValidationError) -> str:
    """The first thing that is wrong, with its line."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return _at(file, first["loc"], f"{where + ': ' if where else ''}{_problem(first)}.")


def _problem(first: Any) -> str:
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    if first["type"] == "missing":
        return "this key is missing; add it"
    if first["type"] != "extra_forbidden":
        return f"{first['msg']}, not {first['input']!r}"
    tables = (Policy, Filters, CategoryRule, Thresholds, ContextRule, EarlyStop, Hiding, Led, Log)
    near = closest(str(first["loc"][-1]), {key for table in tables for key in table.model_fields})
    return "unknown key" + (f'; did you mean "{near}"?' if near else "; remove it")
