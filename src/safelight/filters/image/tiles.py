"""Tiles: runs another image filter on an image, on parts of it, and on the image turned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from PIL.Image import Image, Transpose

from safelight import registry
from safelight.errors import FilterError
from safelight.filters.image.options import check_share
from safelight.images.tiles import tiles
from safelight.registry import register
from safelight.types import MIN_SCORE, WHOLE_IMAGE, Box, Finding

_KIND, _NAME = "image_filter", "tiles"
_MAX_TILES = 64
_TURNS = (Transpose.ROTATE_90, Transpose.ROTATE_180, Transpose.ROTATE_270)
# The limits of one call of the filter in number and pixels, which bound the memory.
_BATCH, _PIXELS = 64, 1 << 24


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at image ``item``: at the part ``tile``, or at the whole image, which may be turned."""

    item: int
    tile: tuple[int, int, int, int] | None = None
    turn: Transpose | None = None

    @property
    def is_plain(self) -> bool:
        return self.tile is None and self.turn is None

    def take(self, image: Image) -> Image:
        if self.tile:
            return image.crop(self.tile)
        return image if self.turn is None else image.transpose(self.turn)

    def place(self, finding: Finding, image: Image) -> Finding:
        """Return the finding with its box in coordinates of ``image``.

        A finding without evidence in a tile has the tile as its box.
        """
        box = finding.evidence
        if box is None and self.tile:
            box = WHOLE_IMAGE
        if not isinstance(box, Box) or self.is_plain:
            return finding
        box = _within(box, self.tile, image.size) if self.tile else _turned_back(box, self.turn)
        return replace(finding, evidence=box)


@register(_KIND, _NAME)
class Tiles:
    """Runs the image filter ``filter`` on whole images, on overlapping tiles of them, and on turned images.

    Most filters scale an image down to a few hundred pixels, so they miss what is small in a large image,
    what is somewhere in a long one, and what lies on its side. An image that is larger than ``side`` pixels,
    or more than twice as long as wide, has tiles of about ``side`` pixels, which overlap by a quarter; if
    that takes more than ``most`` of them (at most 64), they are larger. With ``turned``, the filter also runs
    on the image turned by 90, 180 and 270 degrees. So it runs at most ``most`` + 4 times for one image.
    ``options`` are the options of the filter.

    A finding in a tile has its box in the coordinates of the image; without a box of its own, it has the
    tile's, and is reported if its score is higher than that of the whole image. Scores below ``threshold``
    are left out for tiles and turned images: more looks find more that is not there, so their threshold
    should be higher.

    Raises ``FilterError`` for invalid options, and the errors of the filter. An image is blocked if the
    filter fails for any look at it.
    """

    # The options that name the filter and hold its options.
    wraps: ClassVar[tuple[str, str]] = ("filter", "options")

    @staticmethod
    def requires(options: Mapping[str, Any]) -> Mapping[str, str]:
        requires = getattr(registry.factory_of(_KIND, options["filter"]), "requires", None)
        return requires(options.get("options", {})) if requires else {}

    def __init__(
        self,
        filter: str,
        options: Mapping[str, Any] | None = None,
        side: int = 512,
        most: int = 16,
        turned: bool = True,
        threshold: float = MIN_SCORE,
        name: str = _NAME,
    ) -> None:
        _check(filter, options or {}, side, most, threshold)
        self.name = name
        self._filter = registry.build(_KIND, filter, **(options or {}), name=name)
        self.labels = getattr(self._filter, "labels", None)
        self._side = side
        self._most = most
        self._turns = _TURNS if turned else ()
        self._threshold = threshold

    @property
    def version(self) -> str:
        turned = ", turned" if self._turns else ""
        return f"{self._filter.version}, {self._most} tiles of {self._side}{turned}, {self._threshold:g}"

    def find(self, images: Sequence[Image]) -> list[list[Finding] | FilterError]:
        found: list[list[tuple[_Look, Finding]]] = [[] for _ in images]
        failed = {item: error for item, image in enumerate(images) if (error := _load(image))}
        readable = [item for item in range(len(images)) if item not in failed]
        for looks in _batches(self._looks(images, readable), images):
            answers = self._filter.find([look.take(images[look.item]) for look in looks])
            for look, answer in zip(looks, answers, strict=True):
                if isinstance(answer, FilterError):
                    failed.setdefault(look.item, answer)
                else:
                    found[look.item] += [(look, finding) for finding in answer]
        return [
            failed[item] if item in failed else self._findings(image, each)
            for item, (image, each) in enumerate(zip(images, found, strict=True))
        ]

    def _looks(self, images: Sequence[Image], items: Iterable[int]) -> Iterator[_Look]:
        for item in items:
            yield _Look(item)
            yield from (_Look(item, turn=turn) for turn in self._turns)
            yield from (_Look(item, tile) for tile in tiles(*images[item].size, self._side, self._most))

    def _findings(self, image: Image, found: Iterable[tuple[_Look, Finding]]) -> list[Finding]:
        """Return the findings of all looks: of those without evidence, the highest of the whole image, or
        those in tiles that are higher."""
        with_evidence: list[Finding] = []
        whole: dict[str, Finding] = {}
        in_tiles: list[Finding] = []
        for look, finding in found:
            if finding.score < self._threshold and not look.is_plain:
                continue
            placed = look.place(finding, image)
            if finding.evidence is not None:
                with_evidence.append(placed)
            elif look.tile:
                in_tiles.append(placed)
            elif placed.label not in whole or placed.score > whole[placed.label].score:
                whole[placed.label] = placed
        higher = [
            each for each in in_tiles if each.label not in whole or each.score > whole[each.label].score
        ]
        surpassed = {each.label for each in higher}
        return [*(each for each in whole.values() if each.label not in surpassed), *higher, *with_evidence]


def _load(image: Image) -> FilterError | None:
    """Decode the image; return the reason if that is not possible."""
    try:
        image.load()
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow's, for PNGs
        return FilterError(str(error))
    return None


def _within(box: Box, tile: tuple[int, int, int, int], size: tuple[int, int]) -> Box:
    """Return a box of a tile in the coordinates of the image of ``size``."""
    (left, top, right, bottom), (width, height) = tile, size
    across = [min(1.0, (left + side * (right - left)) / width) for side in (box.left, box.right)]
    down = [min(1.0, (top + side * (bottom - top)) / height) for side in (box.top, box.bottom)]
    return Box(across[0], down[0], across[1], down[1])


def _turned_back(box: Box, turn: Transpose | None) -> Box:
    """Return a box of the turned image in the coordinates of the image. Pillow turns counterclockwise."""
    if turn is Transpose.ROTATE_90:
        return Box(1 - box.bottom, box.left, 1 - box.top, box.right)
    if turn is Transpose.ROTATE_180:
        return Box(1 - box.right, 1 - box.bottom, 1 - box.left, 1 - box.top)
    return Box(box.top, 1 - box.right, box.bottom, 1 - box.left)


def _batches(looks: Iterable[_Look], images: Sequence[Image]) -> Iterator[list[_Look]]:
    batch: list[_Look] = []
    pixels = 0
    for look in looks:
        left, top, right, bottom = look.tile or (0, 0, *images[look.item].size)
        added = 0 if look.is_plain else (right - left) * (bottom - top)
        if batch and (len(batch) == _BATCH or pixels + added > _PIXELS):
            yield batch
            batch, pixels = [], 0
        batch.append(look)
        pixels += added
    if batch:
        yield batch


def _check(filter_: str, options: Mapping[str, Any], side: int, most: int, threshold: float) -> None:
    if filter_ == _NAME:
        raise FilterError(
            'the filter of "tiles" cannot be "tiles" itself; name the filter that sees the tiles.'
        )
    if "name" in options:
        raise FilterError(
            'the options of the filter of "tiles" cannot set name; the filter has the same name.'
        )
    if side < 64:
        raise FilterError(f"side is {side}; give at least 64 pixels.")
    if not 1 <= most <= _MAX_TILES:
        raise FilterError(f"most is {most}; give 1 to {_MAX_TILES} tiles.")
    check_share("threshold", threshold)
