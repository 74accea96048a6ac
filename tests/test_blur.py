from __future__ import annotations

import numpy as np
from PIL import Image

from safelight.images.blur import blurred, boxes_to_blur
from safelight.types import Action, Box, CategoryScore, Finding, Verdict


def _verdict(*findings: Finding) -> Verdict:
    categories = {"violence": CategoryScore(0.5, Action.BLUR, 0.4, ("knife",))}
    return Verdict("image", Action.BLUR, categories, findings, "test 1", 0.0)


def test_only_the_box_changes(image: Image.Image) -> None:
    before, after = np.asarray(image), np.asarray(blurred(image, [Box(0.25, 0.25, 0.5, 0.5)]))
    assert np.array_equal(after[20:], before[20:])
    assert np.array_equal(after[:, 20:], before[:, 20:])
    assert after[8:16, 8:16].std() < 0.25 * before[8:16, 8:16].std()


def test_without_boxes_the_whole_image_changes(image: Image.Image) -> None:
    assert np.asarray(blurred(image)).std() < 0.1 * np.asarray(image).std()


def test_a_mosaic_has_tiles(image: Image.Image) -> None:
    image.paste("red", (0, 0, 8, 32))
    after = np.asarray(blurred(image, style="mosaic"))
    tiles = after.reshape(4, 8, 4, 8, 3)
    assert np.array_equal(tiles, np.broadcast_to(tiles[:, :1, :, :1], tiles.shape))
    assert len(np.unique(after.reshape(-1, 3), axis=0)) == 2
    part = np.asarray(blurred(image, [Box(0.25, 0.25, 0.5, 0.5)], "mosaic"))
    assert np.array_equal(part[20:], np.asarray(image)[20:])


def test_boxes_beyond_the_edge_or_without_area_are_drawn(image: Image.Image) -> None:
    for box in (Box(0, 0, 1, 1), Box(1, 1, 1, 1), Box(0.5, 0.5, 0.5, 0.5)):
        assert blurred(image, [box]).size == image.size


def test_the_guilty_labels_give_the_boxes() -> None:
    box = Box(0.1, 0.1, 0.2, 0.2)
    knife, bread = Finding("knife", 0.5, "f", box), Finding("bread", 0.9, "f", Box(0, 0, 1, 1))
    assert boxes_to_blur([_verdict(knife, bread)]) == (box,)


def test_harm_without_a_box_blurs_everything() -> None:
    whole = Box(0, 0, 1, 1)
    assert boxes_to_blur([_verdict(Finding("knife", 0.5, "f"))]) == (whole,)
    assert boxes_to_blur([]) == (whole,)
