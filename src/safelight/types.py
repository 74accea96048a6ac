"""The nouns of safelight: findings, verdicts and results, all frozen.

One polarity everywhere: a score is the probability of harm (or that the label is there), in [0, 1].
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

# Below this a score says nothing, and no useful threshold is lower; filters may leave such findings out. They
# ask "not less than", so that what is no number goes on and fails.
LEAST_SCORE = 0.05

D = TypeVar("D")

Stage = Literal["prompt", "image", "pair"]
STAGES: tuple[Stage, ...] = ("prompt", "image", "pair")
# The subject of a verdict on an image that the model made; those that came in are called by their argument.
GENERATED_IMAGE = "generated_image"


class Action(StrEnum):
    """What a policy answers, mildest first; compares by severity: ``Action.ALLOW < "block"``."""

    ALLOW = "allow"
    REVIEW = "review"
    STEER = "steer"
    BLUR = "blur"
    BLOCK = "block"

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
            raise ValueError(f"a span of {len(self.text)} characters from {self.start} to {self.end}")


@dataclass(frozen=True, slots=True)
class Box:
    """A region of the image; every side in [0, 1] of its width or height.

    Raises ``ValueError`` for a side that is NaN or outside [0, 1], and for sides in the wrong order.
    """

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        sides = [float(side) for side in (self.left, self.top, self.right, self.bottom)]
        if not (0.0 <= sides[0] <= sides[2] <= 1.0 and 0.0 <= sides[1] <= sides[3] <= 1.0):
            raise ValueError(f"a box whose sides are {sides}, not in order in [0, 1]")
        for name, side in zip(("left", "top", "right", "bottom"), sides, strict=True):
            object.__setattr__(self, name, side)


WHOLE = Box(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Concept:
    """A concept that prompt or image is close to; ``similarity`` is a cosine in [-1, 1]."""

    name: str
    similarity: float


@dataclass(frozen=True, slots=True)
class HashMatch:
    """A known image; ``distance`` is the number of differing bits."""

    bank: str
    id: str
    distance: int


Evidence = Span | Box | Concept | HashMatch


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a filter saw: a category id or any label that the policy may know.

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
    """How strongly one category was seen, the threshold that decided and the labels it came from."""

    score: float
    action: Action
    threshold: float | None
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FilterRun:
    """Proof that a filter ran, and why it failed; ``elapsed_ms`` is this item's share of its batch."""

    version: str
    elapsed_ms: float
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What all filters of a stage say of one prompt, or of one ``frame`` of an image, before any policy.

    ``problem`` is why nobody could look at it.
    """

    findings: tuple[Finding, ...] = ()
    runs: Mapping[str, FilterRun] = field(default_factory=dict)
    problem: str | None = None
    frame: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policy says about one prompt, image or pair.

    ``categories`` is keyed by category id, ``filters`` by instance name. ``subject`` and ``index`` say
    what was judged: "prompt" 0, "negative_prompt" 0, "generated_image" 3; ``frame`` says which one of an
    animation or of several pages was the worst. ``reasons`` are sentences; every verdict that failed closed
    has one.
    ``notes`` are sentences as well, which say how it was screened: no verdict failed because it has one.
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
        """The highest category score; 1.0 where something failed, so that no threshold lets it by."""
        if self.reasons and self.action is Action.BLOCK:
            return 1.0
        return max((category.score for category in self.categories.values()), default=0.0)

    def explain(self) -> str:
        """One line for people: ``block: weapons 0.97, from 0.50 (gun)``."""
        decided = [
            f"{name} {c.score:.2f}, from {c.threshold:.2f} ({', '.join(c.labels)})"
            for name, c in self.categories.items()
            if c.threshold is not None
        ]
        said = "; ".join((*self.reasons, *decided, *self.notes))
        return f"{self.action}: {said or 'nothing found'}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"score": self.score, **_fields(self)}


@dataclass(frozen=True, slots=True)
class Stop:
    """An image that was given up after ``step`` of ``steps``; ``saved`` steps were never computed."""

    step: int
    steps: int
    saved: int


@dataclass(frozen=True, slots=True)
class TraceStep:
    """What guidance did to an image at one step.

    ``timestep`` is as the scheduler counts, ``noise`` ln(b²/a²): high at the beginning. ``acting`` is the
    share of elements that were changed, ``strength`` |γ| / |ε_p - ε_0|, ``cosine`` that of ε_p - ε_0 with
    ε_S - ε_0 of the nearest concept: whether the prompt leads where the concept does, -1 where nobody looked.
    """

    timestep: float
    noise: float
    acting: float
    strength: float
    cosine: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at an image.

    ``guidance`` is how strongly it was led away from ``concepts``, None if it was drawn as the model draws.
    ``verdict`` is why it was given up, ``stop`` when, if that was before it was finished.
    """

    guidance: str | None = None
    concepts: tuple[str, ...] = ()
    verdict: Verdict | None = None
    stop: Stop | None = None
    trace: tuple[TraceStep, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a request. ``images`` holds released images only.

    ``images[k]`` is image number ``indices[k]`` of the request, made with ``seed + indices[k]``;
    image ``i`` answers prompt ``i // images_per_prompt``. ``seed`` is None where the caller brought
    generators of their own. ``truncated_tokens`` has one count per prompt; ``elapsed_ms`` is by stage;
    ``stopped`` is by image, and so is ``attempts``, for images that were led away from something: the
    tries at it in order. Verdicts are of the last.
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
        return severest(self.verdicts)

    def verdicts_of(self, image: int) -> tuple[Verdict, ...]:
        """Everything that was said about image ``image``: its prompt, the inputs, itself."""
        prompt = image // self.images_per_prompt
        mine = {"prompt": prompt, GENERATED_IMAGE: image}
        return tuple(v for v in self.verdicts if v.index == mine.get(v.subject, v.index))

    def action_of(self, image: int) -> Action:
        return severest(self.verdicts_of(image))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; the images themselves are left out."""
        plain = {name: value for name, value in _fields(self).items() if name != "images"}
        return {"action": self.action.value, **plain}


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
    """Cases in the order in which a system is asked them. Raises ``ValueError`` if two have the same id."""

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
        """Return the sha256 of all cases: two suites with the same digest ask the same."""
        return hashlib.sha256("\n".join(map(_case_line, self.cases)).encode()).hexdigest()


def _case_line(case: Case) -> str:
    sets = (sorted(labels) for labels in (case.expects, case.any_of, case.tags))
    about = (case.categories, sorted(case.attributes.items()), case.seed, case.guidance_scale)
    return repr((case.id, case.prompt, *sets, *about))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a system gives for one prompt and seed; ``image`` is None where it refused."""

    image: Image | None
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge says about one image.

    ``labels`` are the things that it detected, each with its probability in [0, 1], and ``harms`` the kinds
    of harm that make the image harmful. ``features`` is a vector by which images can be compared.
    ``details`` is whatever else the judge says, as JSON.
    """

    labels: Mapping[str, float] = field(default_factory=dict)
    harms: tuple[str, ...] = ()
    features: tuple[float, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlignmentRun:
    """What an alignment method is given beside the pipeline.

    ``folder`` keeps checkpoints, from which a training that was stopped goes on. ``shows`` is given a concept
    and images, and returns which of them show it, or None if it cannot tell. ``evaluate`` is given the number
    of steps done and returns the rate that should fall to 0; without it, trainings evaluate by ``shows``.
    ``progress`` is given how many steps of how many are done.
    """

    folder: Path | None = None
    shows: Callable[[str, Sequence[Image]], Sequence[bool] | None] | None = None
    evaluate: Callable[[int], float] | None = None
    progress: Callable[[int, int], None] | None = None


@dataclass(frozen=True, slots=True)
class AlignmentResult(Generic[D]):
    """What every alignment method returns.

    ``delta`` is the change to the model. ``loss`` is that of every step, empty where nothing was trained.
    ``measured`` has what was measured after so many steps or edits, by name. ``preserved`` are the concepts
    that should look as before.
    """

    delta: D
    loss: tuple[float, ...] = ()
    measured: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    preserved: tuple[str, ...] = ()


def badness(said: Verdict | CategoryScore) -> tuple[int, float]:
    """What is worse comes later when sorted by this."""
    return said.action.severity, said.score


def severest(verdicts: Sequence[Verdict]) -> Action:
    return max((verdict.action for verdict in verdicts), default=Action.ALLOW)


def _fields(value: Any) -> dict[str, Any]:
    return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}


def plain(value: Any) -> Any:
    """``value`` of this module in the types of JSON; evidence says its kind under "type"."""
    if isinstance(value, Evidence):
        return {"type": type(value).__name__.lower(), **_fields(value)}
    if isinstance(value, Verdict):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return _fields(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value.value if isinstance(value, StrEnum) else value
