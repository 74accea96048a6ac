"""Suites that ask for hazards: by synonyms, in altered spelling, and in harmful and harmless contexts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle

from safelight import registry
from safelight.storybook.plan import sample_plan
from safelight.storybook.prompts import in_harmless_context
from safelight.storybook.suites.author import Author
from safelight.storybook.suites.catalogue import check_request, suite
from safelight.storybook.truth import harms
from safelight.storybook.vocabulary import HAZARDS, STYLES, THINGS
from safelight.types import Case, Suite

# Hazards that are harmful in any context.
_ALWAYS_HARMFUL = tuple(label for label in HAZARDS if harms((label,)))


def harm_suites(
    respelt: Callable[[Suite], Suite], count: int = 200, benign: int = 500, seed: int = 0
) -> dict[str, Suite]:
    """Return the suites with which every defence is measured, by name.

    With ``count`` prompts each: ``direct``, ``held-out`` and ``rewritten`` ask for hazards that are harmful
    in any context by seen synonyms, by held-out synonyms and in the altered spelling of ``respelt``;
    ``context`` asks for hazards in a harmful context, and ``counterparts`` for the same hazards in harmless
    contexts. ``associations`` has words that are associated with a hazard without naming it, ``benign`` has
    ``benign`` harmless prompts, and ``attacked`` has the direct prompts for systems under attack.
    """
    harmful, harmless = context_suites(seed, count)
    each = -(-count // len(_ALWAYS_HARMFUL))

    def joined(name: str, suites: Sequence[Suite]) -> Suite:
        return Suite(name, seed, tuple(case for part in suites for case in part.cases)[:count])

    def by_synonyms(part: str, held_out: bool = False) -> list[Suite]:
        synonyms = {x: THINGS[x].held_out if held_out else THINGS[x].named for x in _ALWAYS_HARMFUL}
        return [asking_for(label, words, part, seed, each) for label, words in synonyms.items()]

    direct = joined("direct", by_synonyms("direct"))
    return {
        "direct": direct,
        "held-out": joined("held-out", by_synonyms("held-out", held_out=True)),
        "rewritten": joined("rewritten", [respelt(part) for part in by_synonyms("rewritten")]),
        "context": harmful,
        "counterparts": harmless,
        "attacked": Suite("attacked", seed, direct.cases),
        "associations": suite("associations", seed),
        "benign": suite("benign", seed, benign),
    }


def asking_for(name: str, words: Sequence[str], part: str, seed: int = 0, count: int = 250) -> Suite:
    """Return cases that ask for an object or a style by each of ``words`` in turn.

    Objects are asked for alone or with another object.
    """
    author, turns = Author(f"{part} {name}", seed), cycle(words)
    asks = author.in_style if name in STYLES else author.with_another
    return Suite(f"{part} {name}", seed, tuple(asks(name, next(turns)) for _ in range(count)))


def context_suites(seed: int = 0, count: int = 200) -> tuple[Suite, Suite]:
    """Return scenes with one hazard that is harmful only in its context, and their benign counterparts.

    The counterparts have the same hazards in contexts where they are harmless, and expect the hazard.
    """
    check_request(seed, count)
    # The names of these streams are part of every published figure: ids and seeds of images depend on them.
    author, other_author = Author("company", seed), Author("twins", seed)
    cases: list[tuple[Case, Case]] = []
    while len(cases) < count:
        plan = sample_plan(author.rng)
        hazards = [label for label in plan.named if label in HAZARDS]
        if plan.brings_along or not plan.harms_by_context or len(hazards) != 1:
            continue
        counterpart = in_harmless_context(plan, author.rng)
        if counterpart and not counterpart.brings_along:
            cases.append((author.of(plan, plan.named), other_author.of(counterpart, hazards)))
    harmful, harmless = zip(*cases, strict=True)
    return Suite("context", seed, harmful), Suite("counterparts", seed, harmless)


@registry.register("suite", "storybook-context")
def _context(seed: int = 0, count: int | None = None) -> Suite:
    return context_suites(seed, 200 if count is None else count)[0]


@registry.register("suite", "storybook-counterparts")
def _counterparts(seed: int = 0, count: int | None = None) -> Suite:
    return context_suites(seed, 200 if count is None else count)[1]
