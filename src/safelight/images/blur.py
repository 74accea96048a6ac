"""Blurring what an image must not show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from PIL.Image import Image, Resampling

from safelight.types import WHOLE, Action, Box, Verdict

Style = Literal["blur", "mosaic"]

# A region keeps this many blocks along each side, too few to recognise anything by.
_BLOCKS = {"blur": 2, "mosaic": 4}
# Boxes are drawn tight; this share of their size is added on every side.
_MARGIN = 0.15


def blurred(image: Image, boxes: Iterable[Box] = (WHOLE,), style: Style = "blur") -> Image:
    """A copy of ``image`` with every box, by default the whole of it, made unrecognisable."""
    smooth = Resampling.BICUBIC if style == "blur" else Resampling.NEAREST
    copy = image.convert("RGB")
    for box in boxes:
        sides = _pixels(box, copy.width, copy.height)
        region = copy.crop(sides)
        coarse = region.resize((_BLOCKS[style],) * 2, Resampling.BOX)
        copy.paste(coarse.resize(region.size, smooth), sides)
    return copy


def boxes_of(verdicts: Iterable[Verdict]) -> tuple[Box, ...]:
    """Where the things are that must be blurred; the whole image if that is not known of one of them."""
    boxes: list[Box] = []
    for verdict in verdicts:
        guilty = {label for c in verdict.categories.values() if c.action >= Action.BLUR for label in c.labels}
        for finding in verdict.findings:
            if finding.label in guilty:
                boxes.append(finding.evidence if isinstance(finding.evidence, Box) else WHOLE)
    return tuple(boxes) or (WHOLE,)


def _pixels(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """The box with its margin, inside the image and at least one pixel large."""
    across, down = _MARGIN * (box.right - box.left), _MARGIN * (box.bottom - box.top)
    left = min(max(int((box.left - across) * width), 0), width - 1)
    top = min(max(int((box.top - down) * height), 0), height - 1)
    right = min(max(round((box.right + across) * width), left + 1), width)
    bottom = min(max(round((box.bottom + down) * height), top + 1), height)
    return left, top, right, bottom
