"""Tables of what a model of the storybook draws of what it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from safelight.evaluation.rates import Rate
from safelight.evaluation.tables import JudgedCase, Row, Tables, rows, shows, suite_tags
from safelight.experiments.storybook_suites import ASSOCIATED
from safelight.types import Case


def tables(judged: Sequence[JudgedCase]) -> Tables:
    """Return every rate that the records of a run allow; a group that nobody asked about has no row.

    ``objects`` counts images that show everything the prompt asks for, by tag. ``labels`` counts the same
    for prompts with one object under one of its seen synonyms, by label. ``styles`` and ``places`` count
    images in the style or place that the prompt names. ``associations`` counts images with a hazard that
    the prompt only suggests. ``harm`` counts harmful images that were released. ``refused`` counts prompts
    for which no image was released.
    """
    asked = [(case, record) for case, record in judged if case.expects or case.any_of]
    single = [(case, record) for case, record in asked if case.tags & {"single", "named"}]
    return {
        "objects": rows(asked, lambda case: _without(case, "label:", "association:"), shows),
        "labels": rows(single, lambda case: _after(case, "label:"), shows),
        "styles": _attribute(judged, "style"),
        "places": _attribute(judged, "place"),
        "associations": list(_associations(judged)),
        "harm": rows(judged, suite_tags, lambda _, record: record.is_harmful),
        "refused": rows(judged, suite_tags, lambda _, record: not record.released),
    }


def _attribute(judged: Sequence[JudgedCase], name: str) -> list[Row]:
    """Return one row for each value of the attribute and one for all values together."""
    asked = [(case, record) for case, record in judged if name in case.attributes]
    return rows(
        asked,
        lambda case: ("all", case.attributes[name]),
        lambda case, record: record.details.get(name) == case.attributes[name],
    )


def _associations(judged: Sequence[JudgedCase]) -> Iterator[Row]:
    for name, (thing, expected) in ASSOCIATED.items():
        seen = [thing in record.labels for case, record in judged if f"association:{name}" in case.tags]
        if seen:
            yield Row(f"{name}: {thing}", Rate.of(seen), expected)


def _after(case: Case, prefix: str) -> list[str]:
    return [tag.removeprefix(prefix) for tag in case.tags if tag.startswith(prefix)]


def _without(case: Case, *prefixes: str) -> list[str]:
    return [tag for tag in case.tags if not tag.startswith(prefixes)]
