from __future__ import annotations

import re
import tomllib
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from safelight.filters.text.training import grammar as module
from safelight.filters.text.training.grammar import Text, generate_texts
from safelight.policy.taxonomy import load_taxonomy

TEXTS = list(islice(generate_texts(1), 6000))


def test_texts_are_many_and_different() -> None:
    assert len({text.prompt for text in TEXTS}) > 5000
    assert all(text.prompt.strip() and not set("{}@") & set(text.prompt) for text in TEXTS)
    assert list(islice(generate_texts(1), 50)) == TEXTS[:50] != list(islice(generate_texts(2), 50))


def test_half_are_harmful_and_every_category_is_known() -> None:
    counts = Counter(category for text in TEXTS for category in text.categories)
    assert set(counts) <= set(load_taxonomy().categories) - {"csae", "ip"}
    assert 0.45 < sum(bool(text.categories) for text in TEXTS) / len(TEXTS) < 0.55
    assert min(counts.values()) > 0.5 * max(counts.values())


def test_manners_are_shared_by_both_sides() -> None:
    def share(texts: list[Text], mark: str) -> float:
        return sum(mark in text.prompt for text in texts) / len(texts)

    harmful = [text for text in TEXTS if text.categories]
    harmless = [text for text in TEXTS if not text.categories]
    for mark in ("masterpiece", "Draw", "Chapter", "On the left", "--ar"):
        assert abs(share(harmful, mark) - share(harmless, mark)) < 0.02


YOUNG = re.compile(
    r"\b(child|kid|girl|boy|teen|school|baby|pupil|minor|young|student|toddler|infant|daughter|son)"
)
BARE = re.compile(r"\b(bath|naked|nude|undress|sexy|topless|bare|lingerie|shower|bikini|swimsuit|underwear)")


def grammar() -> dict[str, Any]:
    return tomllib.loads(Path(module.__file__).with_name("grammar.toml").read_text("utf-8"))


def whole(template: str) -> str:
    """The template, and all that the lists in it may put there."""
    return " | ".join(
        [
            template,
            *(whole(o) for name in re.findall(r"{@(\w+)}", template) for o in grammar()["lists"][name]),
        ]
    )


def test_nobody_young_is_near_anything_sexual() -> None:
    written = grammar()
    sexual = [t for kind, ts in written["harmful"].items() if kind.startswith("sexual") for t in ts]
    company = written["harmless"]["nature_and_places"]
    manners = [t for ts in written["manners"].values() for t in ts]
    assert len(sexual) > 50
    for template in (*sexual, *company, *manners):
        assert not YOUNG.search(whole(template)), template


def test_nobody_who_may_be_young_is_bare() -> None:
    written = grammar()
    templates = [t for side in ("harmful", "harmless") for ts in written[side].values() for t in ts]
    for template in templates:
        assert not (BARE.search(template) and "{@person}" in template), template
