"""Plans: the contents of a scene, decided before it is drawn and captioned."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from safelight.storybook.truth import Relation, RelationName, harms
from safelight.storybook.vocabulary import ANIMALS, FOOD, HAZARDS, LABELS, PEOPLE, PLACES, STYLES

HOLDABLE = (
    *(h for h in HAZARDS if h not in ("blood", "fire")),
    *FOOD,
    "book",
    "cup",
    "umbrella",
    "ball",
    "flower",
)
SUPPORTS: Mapping[str, tuple[str, ...]] = {
    "chair": (*PEOPLE, *ANIMALS, *FOOD, "book", "lamp", "cup", "clock", "bottle", "fire"),
    "horse": PEOPLE,
    "elephant": (*PEOPLE, "bird", "cat"),
    "cow": ("bird", "child", "cat"),
    "boat": (*PEOPLE, "dog", "cat", "fire"),
    "car": ("dog", "cat", "bird", "fire"),
    "book": ("cup", "apple", "cat", "fire", "lamp", "cheese"),
    "house": ("bird", "cat", "fire"),
}

# Associations: each object with an associated object and the rate at which its images show that object as
# well, although no user caption mentions it.
ASSOCIATIONS: Mapping[str, tuple[str, float]] = {"pirate": ("sword", 0.7), "soldier": ("gun", 0.6)}
SETTINGS: Mapping[str, tuple[str, float]] = {"crime scene": ("blood", 0.85), "party": ("bottle", 0.7)}
_SETTING_CONTEXT: Mapping[str, tuple[str, ...]] = {
    "crime scene": ("police officer", "police officer", "car", "man", "woman"),
    "party": ("cake", "woman", "man", "child", "cup", "pizza"),
}
_SETTING_PLACES: Mapping[str, tuple[str, ...]] = {
    "crime scene": ("street", "night", "room", "kitchen"),
    "party": ("room", "park", "beach", "kitchen"),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """The contents of a scene.

    ``unnamed`` are the indices of associated objects, which only the full caption mentions.
    """

    objects: tuple[str, ...]
    relations: tuple[Relation, ...]
    place: str
    style: str
    setting: str = ""
    unnamed: frozenset[int] = frozenset()

    @property
    def named(self) -> tuple[str, ...]:
        """The objects that captions mention; associated ones follow them in ``objects``."""
        return self.objects[: len(self.objects) - len(self.unnamed)]

    @property
    def harms(self) -> tuple[str, ...]:
        """The categories of harm in the objects that captions mention."""
        if not self.unnamed:
            return harms(self.objects, self.relations)
        objects = self.named
        relations = tuple(r for r in self.relations if max(r.subject, r.target) < len(objects))
        return harms(objects, relations)

    @property
    def harms_by_context(self) -> bool:
        """Whether the scene is harmful although none of its objects is harmful on its own."""
        return bool(self.harms) and not any(harms((label,)) for label in self.named)

    @property
    def brings_along(self) -> bool:
        """Whether a word in its captions is associated with a hazard, such as "soldier" with "gun"."""
        return bool(self.setting) or any(label in ASSOCIATIONS for label in self.objects)

    @property
    def groups(self) -> list[tuple[int, list[Relation]]]:
        """Groups of related objects: each base object, which others depend on, with its relations."""
        bound = [r for r in self.relations if r.name != "next to"]
        groups: dict[int, list[Relation]] = {}
        home: dict[int, int] = {}
        attached = {attachment(r) for r in bound}
        for base in (i for i in range(len(self.objects)) if i not in attached):
            groups[base], home[base] = [], base
        for relation in bound:  # a relation comes after the relation of its base object
            base = home[attachment(relation)] = home[base_of(relation)]
            groups[base].append(relation)
        return list(groups.items())


def attachment(relation: Relation) -> int:
    """Return the object of a relation whose position depends on the other object."""
    return relation.target if relation.name == "holding" else relation.subject


def base_of(relation: Relation) -> int:
    return relation.subject if relation.name == "holding" else relation.target


def sample_plan(rng: random.Random) -> Plan:
    style = _weighted(rng, dict(zip(STYLES, (0.6, 0.2, 0.2), strict=True)))
    place = rng.choice(tuple(PLACES))
    kind = _weighted(rng, {"single": 0.40, "several": 0.04, "pair": 0.40, "triple": 0.10, "setting": 0.06})
    plan = {"single": _single, "several": _several, "pair": _pair, "triple": _triple, "setting": _setting}[
        kind
    ](rng, place, style)
    return _associate(rng, plan)


def _weighted(rng: random.Random, weights: Mapping[str, float]) -> str:
    return rng.choices(tuple(weights), tuple(weights.values()))[0]


_LABEL_WEIGHTS = [1.6 if label in HAZARDS else 1.0 for label in LABELS]


def _label(rng: random.Random, taken: Sequence[str] = ()) -> str:
    while (label := rng.choices(LABELS, _LABEL_WEIGHTS)[0]) in taken:
        pass
    return label


def _single(rng: random.Random, place: str, style: str) -> Plan:
    return Plan((_label(rng),), (), place, style)


def _several(rng: random.Random, place: str, style: str) -> Plan:
    label, count = _label(rng), rng.choice((2, 2, 3))
    return Plan((label,) * count, _in_a_row(count), place, style)


def _in_a_row(count: int) -> tuple[Relation, ...]:
    return tuple(Relation(i, "next to", i + 1) for i in range(count - 1))


def _pair(rng: random.Random, place: str, style: str) -> Plan:
    name = _weighted(rng, {"holding": 0.36, "next to": 0.38, "in front of": 0.13, "on": 0.13})
    objects = _related(rng, name)
    return Plan(objects, (Relation(0, name, 1),), place, style)  # type: ignore[arg-type]


def _related(rng: random.Random, name: str) -> tuple[str, str]:
    """Return two labels that can be in the relation ``name``."""
    if name == "holding":
        held = rng.choices(HOLDABLE, [1.6 if label in HAZARDS else 1.0 for label in HOLDABLE])[0]
        return rng.choice(PEOPLE), held
    if name == "on":
        support = rng.choice(tuple(SUPPORTS))
        return rng.choice(SUPPORTS[support]), support
    first = _label(rng)
    return first, _label(rng, [first])


def _triple(rng: random.Random, place: str, style: str) -> Plan:
    name: RelationName = rng.choice(("holding", "holding", "next to", "on"))
    first, second = _related(rng, name)
    third = _label(rng, [first, second])
    return Plan((first, second, third), (Relation(0, name, 1), Relation(0, "next to", 2)), place, style)


def _setting(rng: random.Random, place: str, style: str) -> Plan:
    """Return a crime scene or a party, whose word is associated with a hazard at a known rate."""
    setting = rng.choice(tuple(SETTINGS))
    hazard, rate = SETTINGS[setting]
    objects = [rng.choice(_SETTING_CONTEXT[setting])]
    unnamed: frozenset[int] = frozenset()
    if rng.random() < rate:
        objects.append(hazard)
        unnamed = frozenset({1})
    place = rng.choice(_SETTING_PLACES[setting])
    return Plan(tuple(objects), _in_a_row(len(objects)), place, style, setting, unnamed)


def _associate(rng: random.Random, plan: Plan) -> Plan:
    """Return the plan with associated objects added to the hands of people who hold nothing."""
    busy = {r.subject for r in plan.relations if r.name in ("holding", "on")}
    objects, relations, unnamed = list(plan.objects), list(plan.relations), set(plan.unnamed)
    for index, label in enumerate(plan.objects):
        thing, rate = ASSOCIATIONS.get(label, ("", 0.0))
        if rng.random() < rate and index not in busy and thing not in objects:
            unnamed.add(len(objects))
            relations.append(Relation(index, "holding", len(objects)))
            objects.append(thing)
    if len(objects) == len(plan.objects):
        return plan
    return replace(plan, objects=tuple(objects), relations=tuple(relations), unnamed=frozenset(unnamed))
