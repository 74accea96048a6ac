"""Debiasing: what a word brings along by itself is evened out, in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from safelight.alignment.delta.delta import Delta
from safelight.alignment.delta.proof import Shows, draw
from safelight.alignment.diffusion.uce import TEMPLATES, UCE, Tokens
from safelight.alignment.method.concept_names import check_names, names_of
from safelight.errors import ModelError, RequestError

# By attribute, its share of the images that show any.
Shares = Mapping[str, float]


@dataclass(frozen=True)
class Debias:
    """Of the images of ``concept`` so many are to show each of ``attributes`` as their shares say.

    The concept goes on meaning what it means, c, and α_a of each attribute a besides: eq. 7 of Gandikota et
    al. (2024, arXiv:2308.14761) with g = c + Σ α_a a. The α are found by looking at ``images`` after each
    of at most ``rounds`` edits, α_a ← α_a + pace (wanted share - share seen), until no share is further away
    than ``tolerance``. The ``pace`` is halved whenever an edit went too far.

    The rest is as in ``UCE``. Raises ``RequestError`` for settings that make no sense.
    """

    concept: str
    attributes: Shares
    preserve: Sequence[str] = ()
    templates: Sequence[str] = TEMPLATES
    tokens: Sequence[Tokens] = ("last",)
    preserve_weight: float = 1.0
    ridge: float = 0.5
    rounds: int = 10
    pace: float = 0.5
    tolerance: float = 0.05
    num_images: int = 64
    steps: int = 15
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self)

    def edit(
        self, pipe: Any, shows: Shows, tell: Callable[[int], None] | None = None
    ) -> tuple[Delta, list[Shares]]:
        """The delta that came nearest, and the shares before it and after each round.

        ``shows`` says which images show an attribute. Raises ``RequestError`` for a word that the model
        cannot read or an attribute that nobody can see, ``ModelError`` if no image shows any, or if the
        shares are as wanted from the start.
        """
        check_names((self.concept, *self.attributes), pipe)
        wanted = {name: share / sum(self.attributes.values()) for name, share in self.attributes.items()}
        history: list[Shares] = [self._seen(pipe, shows)]
        if _apart(history[0], wanted) <= self.tolerance:
            raise ModelError(f'images of "{self.concept}" are as wanted already; nothing was changed.')
        edits: list[Delta] = []
        added, pace = dict.fromkeys(self.attributes, 0.0), self.pace
        while len(edits) < self.rounds and _apart(history[-1], wanted) > self.tolerance:
            if edits and _too_far(history[-2], history[-1], wanted):
                pace /= 2
            for name, share in history[-1].items():
                added[name] += pace * (wanted[name] - share)
            edits.append(self._method(added).edit(pipe))
            with edits[-1].attach(pipe):
                history.append(self._seen(pipe, shows))
            if tell:
                tell(len(edits))
        best = min(range(len(edits)), key=lambda number: _apart(history[number + 1], wanted))
        settings = {**edits[best].about.settings, **asdict(self), "shares": [dict(each) for each in history]}
        about = replace(edits[best].about, method="debias", settings=settings)
        return replace(edits[best], about=about), history

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

    def _seen(self, pipe: Any, shows: Shows) -> Shares:
        images = draw(pipe, self.concept, self.num_images, self.steps, self.seed)
        counts: dict[str, int] = {}
        for name in self.attributes:
            seen = shows(name, images)
            if seen is None:
                raise RequestError(f'nobody can see whether an image shows "{name}"; name something else.')
            counts[name] = sum(seen)
        whole = sum(counts.values())
        if not whole:
            raise ModelError(f'no image of "{self.concept}" shows any of {", ".join(counts)}.')
        return {name: count / whole for name, count in counts.items()}


def _apart(seen: Shares, wanted: Shares) -> float:
    return max(abs(seen[name] - share) for name, share in wanted.items())


def _too_far(before: Shares, after: Shares, wanted: Shares) -> bool:
    """Whether what is missing now is mostly what there was too much of."""
    return sum((share - before[name]) * (share - after[name]) for name, share in wanted.items()) < 0


def _check(settings: Debias) -> None:
    names, shares = list(settings.attributes), list(settings.attributes.values())
    if len(names) < 2:
        raise RequestError("give at least two attributes.")
    if not all(math.isfinite(share) and share > 0 for share in shares):
        raise RequestError("the share of every attribute must be a number above 0.")
    if both := next((name for name in names if name in names_of(settings.concept)), None):
        raise RequestError(f'"{both}" cannot be its own attribute; give others.')
    for name in ("rounds", "num_images", "steps"):
        if getattr(settings, name) < 1:
            raise RequestError(f"{name} is {getattr(settings, name)}; it must be at least 1.")
    for name in ("pace", "tolerance"):
        if not 0 < getattr(settings, name) < math.inf:
            raise RequestError(f"{name} is {getattr(settings, name)}; it must be a number above 0.")
    settings._method({})
