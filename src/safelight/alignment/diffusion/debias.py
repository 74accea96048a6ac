"""Debiasing in closed form: makes images of a concept show its attributes in given shares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

from safelight.alignment.delta.delta import Delta
from safelight.alignment.delta.proof import Shows, draw
from safelight.alignment.diffusion.uce import (
    PRESERVE_HELP,
    PRESERVE_WEIGHT_HELP,
    RIDGE_HELP,
    TEMPLATES,
    TOKENS_HELP,
    UCE,
    Tokens,
)
from safelight.alignment.method.concept_names import check_names, names_of
from safelight.errors import ModelError, RequestError
from safelight.registry import register
from safelight.types import AlignmentResult, AlignmentRun

# The share of each attribute among the images that show any.
Shares = Mapping[str, float]


@register("alignment_method", "debias")
@dataclass(frozen=True)
class Debias:
    """Balance which attributes images of a concept show (UCE). Repeats Unified Concept Editing for minutes,
    until the images show the attributes in the shares that were asked for. Needs a judge of the images, which
    only the packaged model has.

    ``attributes`` maps each attribute to its target share among the images of ``concept`` that show any of
    them. The embedding c of the concept is replaced by g = c + Σ α_a a, with an amount α_a of each attribute
    a, by eq. 7 of Gandikota et al. (2024, arXiv:2308.14761). The amounts are found iteratively: after each of
    at most ``rounds`` edits, ``images_per_round`` images are generated and α_a ← α_a + step_size (target
    share - observed share), until no share deviates by more than ``tolerance``. ``step_size`` is halved
    whenever an edit overshoots.

    The other settings are those of ``UCE``. Raises ``RequestError`` for invalid settings.
    """

    concept: str = field(
        metadata={
            "help": "Concept whose images should show the attributes, with synonyms separated by commas."
        }
    )
    attributes: Shares = field(
        metadata={
            "option": "--attribute",
            "help": "Attribute that images may show, and its target share relative to the others', 1 if left "
            "out; repeatable, at least two.",
            "metavar": "NAME[=SHARE]",
        }
    )
    preserve: Sequence[str] = field(
        default=(),
        metadata=PRESERVE_HELP,
    )
    templates: Sequence[str] = field(
        default=TEMPLATES,
        metadata={
            "option": "--template",
            "help": "Prompt with {} in the place of the concept; repeatable.",
            "shown": "six prompts",
        },
    )
    tokens: Sequence[Tokens] = field(
        default=("last",),
        metadata=TOKENS_HELP,
    )
    preserve_weight: float = field(default=1.0, metadata=PRESERVE_WEIGHT_HELP)
    ridge: float = field(
        default=0.5,
        metadata=RIDGE_HELP,
    )
    rounds: int = field(
        default=10, metadata={"help": "Largest number of edits; the best one is kept.", "min": 1}
    )
    step_size: float = field(
        default=0.5,
        metadata={
            "help": "Change of an attribute's factor in an edit, divided by how far its share is from the "
            "target; above 0, and halved after an edit that overshoots."
        },
    )
    tolerance: float = field(
        default=0.05,
        metadata={
            "help": "Largest allowed deviation of a share from its target, from 0 to 1; once it is reached, "
            "the edits end."
        },
    )
    images_per_round: int = field(
        default=64,
        metadata={"help": "Number of images in which the shares are counted after each edit.", "min": 1},
    )
    num_inference_steps: int = 15
    seed: int = 0

    name: ClassVar[str] = "debias"
    examples: ClassVar[tuple[str, ...]] = (
        '--concept "a pet" --attribute dog=1 --attribute cat=1 --output pet.safetensors',
    )

    def __post_init__(self) -> None:
        _check(self)

    def align(self, pipe: Any, run: AlignmentRun = AlignmentRun()) -> AlignmentResult[Delta]:
        """Return the delta with the shares closest to the targets, and the shares measured after each edit.

        ``run.shows`` decides which images show an attribute. Raises ``RequestError`` if it is missing, for a
        word that the tokenizer cannot represent and for an attribute that ``run.shows`` does not know;
        ``ModelError`` if no image shows any attribute, or if the shares are on target from the start.
        """
        if not run.shows:
            raise RequestError("there is no judge of this model's images, which debiasing needs.")
        check_names((self.concept, *self.attributes), pipe)
        wanted = {name: share / sum(self.attributes.values()) for name, share in self.attributes.items()}
        history: list[Shares] = [self._observed(pipe, run.shows)]
        if _deviation(history[0], wanted) <= self.tolerance:
            raise ModelError(f'images of "{self.concept}" have the target shares; nothing was changed.')
        edits: list[Delta] = []
        added, step_size = dict.fromkeys(self.attributes, 0.0), self.step_size
        while len(edits) < self.rounds and _deviation(history[-1], wanted) > self.tolerance:
            if edits and _overshot(history[-2], history[-1], wanted):
                step_size /= 2
            for name, share in history[-1].items():
                added[name] += step_size * (wanted[name] - share)
            edits.append(self._method(added).align(pipe).delta)
            with edits[-1].attach(pipe):
                history.append(self._observed(pipe, run.shows))
            if run.progress:
                run.progress(len(edits), self.rounds)
        best = min(range(len(edits)), key=lambda number: _deviation(history[number + 1], wanted))
        settings = {**edits[best].about.settings, **asdict(self), "shares": [dict(each) for each in history]}
        delta = replace(edits[best], about=replace(edits[best].about, method=self.name, settings=settings))
        return AlignmentResult(delta, measured=dict(enumerate(history)), preserved=tuple(self.preserve))

    def _method(self, added: Mapping[str, float]) -> UCE:
        return UCE(
            [self.concept],
            preserve=self.preserve,
            templates=self.templates,
            tokens=self.tokens,
            preserve_weight=self.preserve_weight,
            ridge=self.ridge,
            add=dict(added),
        )

    def _observed(self, pipe: Any, shows: Shows) -> Shares:
        images = draw(pipe, self.concept, self.images_per_round, self.num_inference_steps, self.seed)
        counts: dict[str, int] = {}
        for name in self.attributes:
            seen = shows(name, images)
            if seen is None:
                raise RequestError(f'the judge cannot tell whether an image shows "{name}"; name another.')
            counts[name] = sum(seen)
        whole = sum(counts.values())
        if not whole:
            raise ModelError(f'no image of "{self.concept}" shows any of {", ".join(counts)}.')
        return {name: count / whole for name, count in counts.items()}


def _deviation(observed: Shares, wanted: Shares) -> float:
    """Return the largest deviation of a share from its target."""
    return max(abs(observed[name] - share) for name, share in wanted.items())


def _overshot(before: Shares, after: Shares, wanted: Shares) -> bool:
    """Return whether the edit overshot: the attributes now below target were mostly above it before."""
    return sum((share - before[name]) * (share - after[name]) for name, share in wanted.items()) < 0


def _check(settings: Debias) -> None:
    names, shares = list(settings.attributes), list(settings.attributes.values())
    if len(names) < 2:
        raise RequestError("give at least two attributes.")
    if not all(math.isfinite(share) and share > 0 for share in shares):
        raise RequestError("the share of every attribute must be a number above 0.")
    if both := next((name for name in names if name in names_of(settings.concept)), None):
        raise RequestError(f'"{both}" cannot be its own attribute; give others.')
    for name in ("rounds", "images_per_round", "num_inference_steps"):
        if getattr(settings, name) < 1:
            raise RequestError(f"{name} is {getattr(settings, name)}; it must be at least 1.")
    for name in ("step_size", "tolerance"):
        if not 0 < getattr(settings, name) < math.inf:
            raise RequestError(f"{name} is {getattr(settings, name)}; it must be a number above 0.")
    settings._method({})
