from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from safelight import Guard
from safelight.images.placeholder import placeholder, with_placeholders
from safelight.types import Action, CategoryScore, Verdict

STEPS = {"num_inference_steps": 2, "height": 16, "width": 16}


def _blocked(category: str) -> Verdict:
    scores = {category: CategoryScore(0.9, Action.BLOCK, 0.5, ("gun",))}
    return Verdict("image", Action.BLOCK, scores, (), "test 1", 0.0)


def test_every_image_has_its_place(guard: Guard, pipe: Any) -> None:
    result = guard.generate(pipe, ["a cat", "a gun", "a dog"], n=2, seed=5, **STEPS)
    assert result.indices == (0, 1, 4, 5)
    shown = with_placeholders(result)
    assert [image.size for image in shown] == [(16, 16)] * 6
    assert [shown[i] for i in result.indices] == list(result.images)
    assert shown[2].tobytes() == shown[3].tobytes()
    refused = guard.generate(pipe, "a gun", **STEPS)
    assert [image.size for image in with_placeholders(refused)] == [(512, 512)]
    assert [image.size for image in with_placeholders(refused, (64, 32))] == [(64, 32)]


def test_a_card_says_why() -> None:
    weapons, violence = (placeholder((256, 256), (_blocked(name),)) for name in ("weapons", "violence"))
    assert np.asarray(weapons).std() > 10
    assert weapons.tobytes() != violence.tobytes()
    failed = Verdict("image", Action.BLOCK, {}, (), "test 1", 0.0, reasons=("broken",))
    assert np.asarray(placeholder((256, 256), (failed,))).std() > 10
    assert placeholder((1, 1), ()).size == (1, 1)


def test_cards_look_as_they_should() -> None:
    """The words are in the middle, and the ground is grey up to the edge."""
    card = np.asarray(placeholder((200, 100), (_blocked("weapons"),)).convert("L"))
    bright = np.argwhere(card > 200)
    assert abs(bright[:, 1].mean() - 100) < 10
    assert abs(bright[:, 0].mean() - 50) < 10
    edge = np.concatenate([card[0], card[-1], card[:, 0], card[:, -1]])
    assert edge.std() == 0
    assert isinstance(Image.fromarray(card), Image.Image)
