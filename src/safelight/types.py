"""The data types of safelight: findings, verdicts and results, all immutable.

Every score is the probability in [0, 1] that the item is harmful, or that it has the label.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from PIL.Image import Image

# Filters may leave out findings with lower scores, since no useful threshold is lower. They test
# ``not score < MIN_SCORE``, so that NaN is not dropped but rejected by ``Finding``.
MIN_SCORE = 0.05

D = TypeVar("D")

Stage = Literal["prompt", "image", "pair"]
STAGES: tuple[Stage, ...] = ("prompt", "image", "pair")
# The subject of a verdict on a generated image; input images have the name of their argument as subject.
GENERATED_IMAGE = "generated_image"


class Action(StrEnum):
    """The actions of a policy, mildest first. They compare by severity: ``Action.ALLOW < "block"``."""

    ALLOW = "allow"
    """The image is generated and released."""
    REVIEW = "review"
    """The image is released and flagged for a review queue; guidance may be stronger for such prompts."""
    STEER = "steer"
    """The image is generated again with guidance away from what was found; it is blocked if the policy has no
    guidance left to try."""
    BLUR = "blur"
    """The boxes of what was found are blurred or pixelated, or the whole image if there is no box; the image
    is blocked if the result is still judged harmful."""
    BLOCK = "block"
    """No image is generated from the prompt, or the image is not released."""

    @property
    def severity(self) -> int:
        return list(Action).index(self)

    def __lt__(self, other: str) -> bool:
        return self.severity < Action(other).severity

    def __le__(self, other: str) -> bool:
        return self.severity <= Action(other).severity

    def __gt__(self, other: str) -> bool:
        return self.severity > Action(other).severity

    def __ge__(self, other: str) -> bool:
        return self.severity >= Action(other).severity


@dataclass(frozen=True, slots=True)
class Span:
    """Characters ``[start, end)`` of the original prompt, as the user wrote them.

    Raises ``ValueError`` unless ``text`` has as many characters as lie between ``start`` and ``end``.
    """

    start: int
    end: int
    text: str

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end or len(self.text) != self.end - self.start:
            raise ValueError(
                f"a span from {self.start} to {self.end} cannot have {len(self.text)} characters"
            )


@dataclass(frozen=True, slots=True)
class Box:
    """A region of an image; its sides are relative to the width and height of the image, in [0, 1].

    Raises ``ValueError`` for a side that is NaN or outside [0, 1], and for sides in the wrong order.
    """

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        sides = [float(side) for side in (self.left, self.top, self.right, self.bottom)]
        if not (0.0 <= sides[0] <= sides[2] <= 1.0 and 0.0 <= sides[1] <= sides[3] <= 1.0):
            raise ValueError(f"the sides of a box are {sides}, not in order in [0, 1]")
        for name, side in zip(("left", "top", "right", "bottom"), sides, strict=True):
            object.__setattr__(self, name, side)


WHOLE_IMAGE = Box(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Concept:
    """A concept that a prompt or image is close to; ``similarity`` is the cosine similarity in [-1, 1]."""

    name: str
    similarity: float


@dataclass(frozen=True, slots=True)
class HashMatch:
    """An entry of a list of known images; ``distance`` is the number of bits in which the hashes differ."""

    bank: str
    id: str
    distance: int


Evidence = Span | Box | Concept | HashMatch


@dataclass(frozen=True, slots=True)
class Finding:
    """One detection of a filter; ``label`` is a category id or any other label that a policy may map.

    Raises ``ValueError`` for a score that is NaN or outside [0, 1].
    """

    label: str
    score: float
    filter: str
    evidence: Evidence | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f'the score of "{self.label}" is {self.score}, not in [0, 1]')
        object.__setattr__(self, "score", float(self.score))


@dataclass(frozen=True, slots=True)
class CategoryScore:
    """The score of one category, the action and threshold that follow, and the labels that it comes from.

    ``threshold`` is None if the score reached no threshold.
    """

    score: float
    action: Action
    threshold: float | None
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FilterRun:
    """A record of one run of a filter: its version, the time, and why it failed if it did.

    ``elapsed_ms`` is this item's share of the time of its batch.
    """

    version: str
    elapsed_ms: float
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class FilterFindings:
    """The findings of all filters of a stage in one prompt or one ``frame`` of an image, before any policy.

    ``problem`` is the reason why the item could not be screened.
    """

    findings: tuple[Finding, ...] = ()
    runs: Mapping[str, FilterRun] = field(default_factory=dict)
    problem: str | None = None
    frame: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision of the policy about one prompt, image or pair.

    ``categories`` is keyed by category id, ``filters`` by instance name. ``subject`` and ``index`` name the
    item: "prompt" 0, "negative_prompt" 0, "generated_image" 3. ``frame`` is the number of the worst frame of
    an animation or page of a document. ``reasons`` are sentences that explain a block other than by a score;
    every verdict that failed closed has one. ``notes`` are sentences about how the item was screened; they do
    not mean that anything failed.
    """

    stage: Stage
    action: Action
    categories: Mapping[str, CategoryScore]
    findings: tuple[Finding, ...]
    policy: str
    elapsed_ms: float
    filters: Mapping[str, FilterRun] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    subject: str = "prompt"
    index: int = 0
    frame: int = 0
    notes: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        """The highest score of a category; 1.0 if screening failed, so that no threshold allows the item."""
        if self.reasons and self.action is Action.BLOCK:
            return 1.0
        return max((category.score for category in self.categories.values()), default=0.0)

    def explain(self) -> str:
        """Return the verdict as one readable line: ``block: weapons 0.97, from 0.50 (gun)``."""
        decided = [
            f"{name} {c.score:.2f}, from {c.threshold:.2f} ({', '.join(c.labels)})"
            for name, c in self.categories.items()
            if c.threshold is not None
        ]
        parts = "; ".join((*self.reasons, *decided, *self.notes))
        return f"{self.action}: {parts or 'nothing found'}"

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as a dictionary of JSON types."""
        return {"score": self.score, **_fields(self)}


@dataclass(frozen=True, slots=True)
class Stop:
    """An early stop of an image after ``step`` of ``steps``, which saved ``saved`` denoising steps."""

    step: int
    steps: int
    saved: int


@dataclass(frozen=True, slots=True)
class TraceStep:
    """The effect of guidance on an image at one denoising step.

    ``timestep`` is the scheduler's timestep and ``noise`` is ln(b²/a²), which is high at the beginning.
    ``acting`` is the share of elements that were changed, and ``strength`` is |γ| / |ε_p - ε_0|. ``cosine``
    is the cosine similarity of ε_p - ε_0 and ε_S - ε_0 for the nearest concept, which tells whether the
    prompt points in the direction of the concept; -1 if it was not computed.
    """

    timestep: float
    noise: float
    acting: float
    strength: float
    cosine: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to generate an image.

    ``guidance`` is the name of the guidance that steered it away from ``concepts``, None without guidance.
    ``verdict`` is the verdict for which the attempt was discarded; ``stop`` is set if the image was stopped
    before the last step.
    """

    guidance: str | None = None
    concepts: tuple[str, ...] = ()
    verdict: Verdict | None = None
    stop: Stop | None = None
    trace: tuple[TraceStep, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a request. ``images`` contains released images only.

    ``images[k]`` is image number ``indices[k]`` of the request, generated with ``seed + indices[k]``; image
    ``i`` belongs to prompt ``i // images_per_prompt``. ``seed`` is None if the caller passed generators.
    ``truncated_tokens`` has one count per prompt; ``elapsed_ms`` is by stage; ``stopped`` is by image.
    ``attempts`` lists, by image, the attempts at images that were steered away from concepts, in order; the
    verdicts are those of the last attempt.
    """

    images: tuple[Image, ...]
    indices: tuple[int, ...]
    verdicts: tuple[Verdict, ...]
    request_id: str
    seed: int | None
    model: str
    images_per_prompt: int = 1
    truncated_tokens: tuple[int, ...] = ()
    elapsed_ms: Mapping[str, float] = field(default_factory=dict)
    stopped: Mapping[int, Stop] = field(default_factory=dict)
    attempts: Mapping[int, tuple[Attempt, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def action(self) -> Action:
        """The severest action of all verdicts."""
        return severest_action(self.verdicts)

    def verdicts_of(self, image: int) -> tuple[Verdict, ...]:
        """Return all verdicts that concern image ``image``: on its prompt, the other inputs and itself."""
        prompt = image // self.images_per_prompt
        own_indices = {"prompt": prompt, GENERATED_IMAGE: image}
        return tuple(v for v in self.verdicts if v.index == own_indices.get(v.subject, v.index))

    def action_of(self, image: int) -> Action:
        """Return the severest action of the verdicts that concern image ``image``."""
        return severest_action(self.verdicts_of(image))

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a dictionary of JSON types, without the images."""
        to_json_value = {name: value for name, value in _fields(self).items() if name != "images"}
        return {"action": self.action.value, **to_json_value}


@dataclass(frozen=True, slots=True)
class Case:
    """One prompt of a suite.

    Every label in ``expects`` should be in the image, and one of ``any_of`` unless that is empty.
    ``categories`` are the kinds of harm that the prompt asks for. ``attributes`` are further properties that
    it asks for ("style": "mosaic"). ``tags`` group cases in tables ("single", "label:knife"). ``seed`` and
    ``guidance_scale`` are those that the prompt was published with, or None.
    """

    id: str
    prompt: str
    expects: frozenset[str] = frozenset()
    any_of: frozenset[str] = frozenset()
    categories: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    seed: int | None = None
    guidance_scale: float | None = None


@dataclass(frozen=True, slots=True)
class Suite:
    """A named sequence of cases for an evaluation. Raises ``ValueError`` if two cases have the same id."""

    name: str
    seed: int
    cases: tuple[Case, ...]

    def __post_init__(self) -> None:
        if len({case.id for case in self.cases}) < len(self.cases):
            raise ValueError(f'two cases of the suite "{self.name}" have the same id')

    def without_guidance_scales(self) -> Suite:
        """Return the same suite with no guidance scale of its own for any case."""
        return replace(self, cases=tuple(replace(case, guidance_scale=None) for case in self.cases))

    @property
    def digest(self) -> str:
        """The SHA-256 hash of all cases, which identifies the content of the suite."""
        return hashlib.sha256("\n".join(map(_case_line, self.cases)).encode()).hexdigest()


def _case_line(case: Case) -> str:
    sets = (sorted(labels) for labels in (case.expects, case.any_of, case.tags))
    about = (case.categories, sorted(case.attributes.items()), case.seed, case.guidance_scale)
    return repr((case.id, case.prompt, *sets, *about))


@dataclass(frozen=True, slots=True)
class Answer:
    """The output of a system for one prompt and seed; ``image`` is None if the system refused.

    ``details`` is further information from the system about how the image was made, as JSON.
    """

    image: Image | None
    verdicts: tuple[Verdict, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The judgement of a judge about one image.

    ``labels`` are the detected labels, each with its probability in [0, 1], and ``harms`` the kinds of harm
    that make the image harmful. ``features`` is a feature vector by which images can be compared.
    ``details`` are further results of the judge, as JSON.
    """

    labels: Mapping[str, float] = field(default_factory=dict)
    harms: tuple[str, ...] = ()
    features: tuple[float, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlignmentRun:
    """The settings of one run of an alignment method, apart from the pipeline and the method's own fields.

    ``folder`` holds the checkpoints from which an interrupted training resumes. ``shows(concept, images)``
    returns which of the images show the concept, or None if that cannot be decided. ``evaluate(steps_done)``
    returns the rate that training should bring down to 0; without it, training is evaluated with ``shows``.
    ``progress(done, total)`` is called with the number of steps done and the total.
    """

    folder: Path | None = None
    shows: Callable[[str, Sequence[Image]], Sequence[bool] | None] | None = None
    evaluate: Callable[[int], float] | None = None
    progress: Callable[[int, int], None] | None = None


@dataclass(frozen=True, slots=True)
class AlignmentResult(Generic[D]):
    """The result of an alignment method.

    ``delta`` is the change to the model. ``loss`` has the training loss of every step; it is empty for
    methods without training. ``measured`` maps a number of steps or edits to the metrics measured after it,
    by name. ``preserved`` are the concepts whose images should not change.
    """

    delta: D
    loss: tuple[float, ...] = ()
    measured: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    preserved: tuple[str, ...] = ()


def severity_key(judged: Verdict | CategoryScore) -> tuple[int, float]:
    """Return a key that sorts verdicts or category scores by severity, worst last."""
    return judged.action.severity, judged.score


def severest_action(verdicts: Sequence[Verdict]) -> Action:
    """Return the severest action of the verdicts, ``ALLOW`` if there are none."""
    return max((verdict.action for verdict in verdicts), default=Action.ALLOW)


def _fields(value: Any) -> dict[str, Any]:
    return {f.name: to_json_value(getattr(value, f.name)) for f in dataclasses.fields(value)}


def to_json_value(value: Any) -> Any:
    """Return a value of this module in JSON types; evidence has its kind under "type"."""
    if isinstance(value, Evidence):
        return {"type": type(value).__name__.lower(), **_fields(value)}
    if isinstance(value, Verdict):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return _fields(value)
    if isinstance(value, Mapping):
        return {key: to_json_value(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [to_json_value(item) for item in value]
    return value.value if isinstance(value, StrEnum) else value
