"""Blurs regions of images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from PIL.Image import Image, Resampling

from safelight.types import WHOLE_IMAGE, Action, Box, Verdict

Style = Literal["blur", "mosaic"]

# The number of blocks along each side of a blurred region; too few to recognise anything.
_BLOCKS = {"blur": 2, "mosaic": 4}
# Detectors return tight boxes, so this share of their size is added on every side.
_MARGIN = 0.15


def blurred(image: Image, boxes: Iterable[Box] = (WHOLE_IMAGE,), style: Style = "blur") -> Image:
    """Return a copy of ``image`` in which every box, by default the whole image, is unrecognisable."""
    smooth = Resampling.BICUBIC if style == "blur" else Resampling.NEAREST
    copy = image.convert("RGB")
    for box in boxes:
        sides = _pixels(box, copy.width, copy.height)
        region = copy.crop(sides)
        coarse = region.resize((_BLOCKS[style],) * 2, Resampling.BOX)
        copy.paste(coarse.resize(region.size, smooth), sides)
    return copy


def boxes_to_blur(verdicts: Iterable[Verdict]) -> tuple[Box, ...]:
    """Return the boxes of the findings that must be blurred.

    A finding without a box stands for the whole image, as does a verdict without findings.
    """
    boxes: list[Box] = []
    for verdict in verdicts:
        blurred_labels = {
            label for c in verdict.categories.values() if c.action >= Action.BLUR for label in c.labels
        }
        for finding in verdict.findings:
            if finding.label in blurred_labels:
                boxes.append(finding.evidence if isinstance(finding.evidence, Box) else WHOLE_IMAGE)
    return tuple(boxes) or (WHOLE_IMAGE,)


def _pixels(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Return the box with its margin in pixels, clipped to the image and at least one pixel large."""
    across, down = _MARGIN * (box.right - box.left), _MARGIN * (box.bottom - box.top)
    left = min(max(int((box.left - across) * width), 0), width - 1)
    top = min(max(int((box.top - down) * height), 0), height - 1)
    right = min(max(round((box.right + across) * width), left + 1), width)
    bottom = min(max(round((box.bottom + down) * height), top + 1), height)
    return left, top, right, bottom
