"""Items, the prompts, images and pairs to screen, and the sources that they are read from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from safelight.errors import RequestError

Kind = Literal["prompt", "image", "pair", "problem"]


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt, image or pair to screen, or the problem of one that cannot be read.

    ``key`` names the item in its record. ``value`` is the prompt, the path of the image, a tuple of both, or
    the sentence that says why it cannot be read.
    """

    kind: Kind
    key: Mapping[str, Any]
    value: Any

    @property
    def name(self) -> str:
        """The item's name for people, with control characters escaped."""
        name = str(self.value) if self.kind == "prompt" else " ".join(map(str, self.key.values()))
        return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)


@dataclass(frozen=True, slots=True)
class Source:
    """A file, folder, stream or argument that items are read from.

    ``total`` is the number of items counted beforehand; None for a stream, which can be read only once.
    """

    name: str
    read: Callable[[], Iterable[Item]]
    total: int | None = None

    def __iter__(self) -> Iterator[Item]:
        """Yield the items, or a problem if reading fails. Raises ``RequestError`` if there are none."""
        number = 0
        try:
            for item in self.read():
                number += 1
                yield item
        except OSError as error:
            yield Item("problem", {"file": self.name}, f"it cannot be read: {error.strerror or error}.")
            return
        if self.total is None and not number:
            raise RequestError(
                f"there is nothing to screen in {self.name}; give something that is not empty."
            )
        if number < (self.total or 0):
            sentence = f"only {number} of its {self.total} items were left when it was read."
            yield Item("problem", {"file": self.name}, sentence)


def key_of(row_id: object, file: str, place: Mapping[str, int]) -> dict[str, Any]:
    """Return the key of a line or row: its id if it has one, otherwise its ``place``.

    The two use different keys, so that a line number is never mistaken for an id.
    """
    if row_id is None or row_id == "":
        return {"file": file, **place}
    if isinstance(row_id, float) and not math.isfinite(row_id):
        row_id = str(row_id)  # JSON has no NaN or infinity
    return {"id": row_id, "file": file}
