"""Relations of an image, inferred from where its objects are.

A generated image has no plan to ask, so who holds what is read off the judge's boxes. Only *holding*
and *on* are inferred: of the world's relations, only these can make a context harmful.
"""

from __future__ import annotations

from collections.abc import Sequence

from safelight.storybook.plan import HOLDABLE
from safelight.storybook.truth import Relation
from safelight.storybook.vocabulary import PEOPLE

Box = tuple[float, float, float, float]

# Shares of the holder's or the support's own box.
_REACH = 0.1  # a held thing comes at least this far into its holder's width,
_HAND_HEIGHT = (0.2, 0.8)  # its middle is between shoulder and knee,
_HELD_SIZE = 0.8  # and it is smaller than its holder.
_SEAT = 0.35  # What is on something ends in its upper part
_OFF_CENTRE = 0.3  # and stands over its middle.


def infer_relations(objects: Sequence[str], boxes: Sequence[Box]) -> tuple[Relation, ...]:
    """Who holds, and who is on, what. ``boxes`` are (left, top, right, bottom), one per object.

    A thing has one holder, the one whose box it reaches furthest into, and what is held is on nothing.
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
    """How far ``thing`` comes into the width of ``holder`` from its nearer side, as a share of it."""
    return min(holder[2] - thing[0], thing[2] - holder[0]) / max(holder[2] - holder[0], 1e-6)


def _is_on(thing: Box, support: Box) -> bool:
    left, top, right, bottom = support
    seat = (thing[3] - top) / max(bottom - top, 1e-6)
    aside = abs(thing[0] + thing[2] - left - right) / 2 / max(right - left, 1e-6)
    return -0.05 < seat < _SEAT and aside < _OFF_CENTRE
