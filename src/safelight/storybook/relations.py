"""Relations between the objects of an image, inferred from their boxes.

A generated image has no plan, so its relations are inferred from the boxes that the judge detects. Only
*holding* and *on* are inferred, because no other relation can make a context harmful.
"""

from __future__ import annotations

from collections.abc import Sequence

from safelight.storybook.plan import HOLDABLE
from safelight.storybook.truth import Relation
from safelight.storybook.vocabulary import PEOPLE

Box = tuple[float, float, float, float]

# Conditions for relations, as shares of the size of the holder's or the support's box.
_REACH = 0.1  # smallest horizontal overlap of a held object with its holder
_HAND_HEIGHT = (0.2, 0.8)  # vertical range of a held object's centre, between shoulder and knee
_HELD_SIZE = 0.8  # largest size of a held object
_SEAT = 0.35  # largest depth of an object's lower side below the top of its support
_OFF_CENTRE = 0.3  # largest horizontal distance of an object's centre from that of its support


def infer_relations(objects: Sequence[str], boxes: Sequence[Box]) -> tuple[Relation, ...]:
    """Return which objects hold other objects, and which are on other objects.

    ``boxes`` are (left, top, right, bottom), one per object. An object has at most one holder, the one with
    the largest horizontal overlap, and an object that is held is not on another one.
    """
    indices = range(len(objects))
    holders = {i: _holder(i, objects, boxes) for i in indices if objects[i] in HOLDABLE}
    held = {thing: holder for thing, holder in holders.items() if holder is not None}
    on = [(i, j) for j in indices for i in indices if i != j and i not in held and _is_on(boxes[i], boxes[j])]
    return (
        *(Relation(holder, "holding", thing) for thing, holder in held.items()),
        *(Relation(thing, "on", support) for thing, support in on),
    )


def _holder(thing: int, objects: Sequence[str], boxes: Sequence[Box]) -> int | None:
    able = [i for i, label in enumerate(objects) if label in PEOPLE and _can_hold(boxes[i], boxes[thing])]
    return max(able, key=lambda i: _reach(boxes[i], boxes[thing]), default=None)


def _can_hold(holder: Box, thing: Box) -> bool:
    height = holder[3] - holder[1]
    middle = ((thing[1] + thing[3]) / 2 - holder[1]) / max(height, 1e-6)
    size = max(thing[2] - thing[0], thing[3] - thing[1])
    low, high = _HAND_HEIGHT
    return _reach(holder, thing) > _REACH and low < middle < high and size < _HELD_SIZE * height


def _reach(holder: Box, thing: Box) -> float:
    """Return how far ``thing`` extends into ``holder`` horizontally, as a share of the holder's width."""
    return min(holder[2] - thing[0], thing[2] - holder[0]) / max(holder[2] - holder[0], 1e-6)


def _is_on(thing: Box, support: Box) -> bool:
    left, top, right, bottom = support
    seat = (thing[3] - top) / max(bottom - top, 1e-6)
    aside = abs(thing[0] + thing[2] - left - right) / 2 / max(right - left, 1e-6)
    return -0.05 < seat < _SEAT and aside < _OFF_CENTRE
